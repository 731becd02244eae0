/** The time that ordinary programs take. */

import fs from 'node:fs';
import path from 'node:path';
import { inScope, run, runAnyway, TimeoutError, undoLater } from '../run.mjs';

const SECONDS = { unit: 's', better: 'lower' };

export const hash = {
  ...SECONDS,
  title: 'sha256sum',
  measure: ({ server, sizes }) => timed('sha256sum', server.files, server, sizes),
};

/** The last of the bytes differ: exit code 1. */
export const compare = {
  ...SECONDS,
  title: 'cmp of two snapshots',
  measure: ({ server, sizes }) => timed('cmp', ['-s', ...server.files], server, sizes, [1]),
};

export const copySparse = {
  ...SECONDS,
  title: 'cp --sparse=auto',
  measure: ({ server, folder, sizes }) =>
    inScope(async () => {
      const copy = path.join(folder, 'copy.raw');
      undoLater(() => fs.rmSync(copy, { force: true }));
      return await timed('cp', ['--sparse=auto', server.files[0], copy], server, sizes);
    }),
};

/** tar knows /dev/null and would not read a thing for it; it does not know /dev/zero. */
export const archive = {
  ...SECONDS,
  title: 'tar c of a loop mount',
  measure: ({ server, folder, sizes }) =>
    inScope(async () => {
      const mountpoint = path.join(folder, 'loop');
      fs.mkdirSync(mountpoint, { recursive: true });
      await dropCache(server);
      await runAnyway('mount', ['-o', 'ro,loop', server.files[0], mountpoint]);
      undoLater(() => runAnyway('umount', [mountpoint]));
      return await timed('tar', ['-cf', '/dev/zero', '-C', mountpoint, '.'], server, sizes);
    }),
};

/** Seconds that a program takes, or Infinity if that is too long. */
async function timed(program, args, server, { limitSeconds }, okCodes = [0]) {
  await dropCache(server);
  const start = performance.now();
  try {
    await run(program, args, { okCodes, timeoutMs: limitSeconds * 1000 });
  } catch (error) {
    if (error instanceof TimeoutError) return Number.POSITIVE_INFINITY;
    throw error;
  }
  return (performance.now() - start) / 1000;
}

/** Takes the files of a server out of the page cache; the raw file stays there, as the image does. */
async function dropCache({ files, isRaw }) {
  if (isRaw) return;
  for (const file of files) await run('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}
