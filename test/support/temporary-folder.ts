/** Temporary folders that are gone after the test, however it ends. */

import tmp from 'tmp';

/**
 * Runs `body` with an empty folder of its own and removes the folder afterwards. Other users may pass through it, as who
 * may read what is in it is often the question.
 */
export async function withTemporaryFolder<Result>(
  body: (folder: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  const folder = tmp.dirSync({ prefix: 'qcow2fs-', unsafeCleanup: true, mode: 0o755 });
  try {
    return await body(folder.name);
  } finally {
    folder.removeCallback();
  }
}
