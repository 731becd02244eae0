/** Temporary folders that are gone after the test, however it ends. */

import tmp from 'tmp';

/** Where the run has a folder in memory, or nothing. */
export const MEMORY_VARIABLE = 'QCOW2FS_TEST_MEMORY';

/**
 * Runs `body` with an empty folder of its own and removes the folder afterwards. Other users may pass through it, as who
 * may read what is in it is often the question.
 */
export async function withTemporaryFolder<Result>(
  body: (folder: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  return withFolder(tmp.dirSync({ prefix: 'qcow2fs-', unsafeCleanup: true, mode: 0o755 }), body);
}

/**
 * As `withTemporaryFolder`, in memory if there is enough: for files that many programs write one after the other, each of
 * which waits until the disk has them.
 */
export async function withMemoryFolder<Result>(
  body: (folder: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  return withFolder(createMemoryFolder(), body);
}

/** The folder of `withMemoryFolder`, for those who remove it themselves. */
export function createMemoryFolder(): tmp.DirResult {
  const tmpdir = process.env[MEMORY_VARIABLE];
  return tmp.dirSync({ prefix: 'qcow2fs-', unsafeCleanup: true, mode: 0o755, ...(tmpdir !== undefined && { tmpdir }) });
}

async function withFolder<Result>(
  folder: tmp.DirResult,
  body: (folder: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  try {
    return await body(folder.name);
  } finally {
    folder.removeCallback();
  }
}
