/** Temporary folders that are gone after the test, however it ends. */

import tmp from 'tmp';

/** Runs `body` with an empty folder of its own and removes the folder afterwards. */
export async function withTemporaryFolder<Result>(
  body: (folder: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  const folder = tmp.dirSync({ prefix: 'qcow2fs-', unsafeCleanup: true });
  try {
    return await body(folder.name);
  } finally {
    folder.removeCallback();
  }
}
