/** Disks that are far larger than memory. */

import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { closeDelta, createTemporaryDelta, openKeptDelta } from '../../src/overlay/open-delta.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { withExt4, withTmpfs } from './overlay-place.ts';

const TIB = 2 ** 40;
const WRITTEN_BYTES = 16 * 2 ** 20;
const PROGRAM = path.join(import.meta.dirname, 'large-disk-program.mjs');

/** Milliseconds are those of a processor. */
type Results = Readonly<Record<string, number>>;

async function measure(kind: string, sizeBytes: number): Promise<Results> {
  return withTemporaryFolder((folder) =>
    // tmpfs: its files may be as large as this.
    withTmpfs(folder, 256 * 2 ** 20, (mounted) => {
      const output = runCommand('node', [PROGRAM, kind, mounted, String(sizeBytes)]);
      if (process.env.OVERLAY_FIGURES !== undefined)
        process.stdout.write(`${kind} ${sizeBytes / TIB} TiB: ${output}\n`);
      return JSON.parse(output) as Results;
    }),
  );
}

describe.each([16, 64])('a disk of %i TiB', (tebibytes) => {
  test('costs the memory of what is written, and no work', async () => {
    const results = await measure('throw-away', tebibytes * TIB);
    expect(results).toMatchObject({ usedBytes: WRITTEN_BYTES, allocatedBytes: WRITTEN_BYTES, leftBytes: 0 });
    // Each block that was written has a page of the map to itself; Node.js takes some for its own code.
    expect(results.writtenKib).toBeLessThan(4096 * 4 + 32 * 1024);
    expect(results.totalKib).toBeLessThan(4096 * 4 + 48 * 1024);
    for (const name of ['openMs', 'walkMs', 'discardMs', 'discardAllMs'])
      expect(results[name], name).toBeLessThan(1000);
  });

  test('is kept, and opened again at once', async () => {
    const results = await measure('kept', tebibytes * TIB);
    expect(results).toMatchObject({ reopenedBytes: WRITTEN_BYTES, leftBytes: 0 });
    // The map twice, and what the sync has copied of it.
    expect(results.totalKib).toBeLessThan(3 * 4096 * 4 + 80 * 1024);
    for (const name of ['openMs', 'syncMs', 'reopenMs', 'discardMs']) expect(results[name], name).toBeLessThan(1000);
  });
});

test('a disk of more than 64 TiB is refused', async () => {
  const options = { sizeBytes: 64 * TIB + 512, maxBytes: TIB };
  expect(catchError(() => createTemporaryDelta(options))).toMatchObject({ code: 'UNSUPPORTED' });
  const kept = openKeptDelta('/never/made', { ...options, imagePath: '', stateText: '', identity: '' });
  await expect(kept).rejects.toMatchObject({ code: 'UNSUPPORTED' });
});

test('a file system that cannot have so large a file says so at once, and keeps no part of it', () =>
  withTemporaryFolder((folder) =>
    withExt4(folder, 12 * 2 ** 20, async (mounted) => {
      const options = { sizeBytes: 17 * TIB, maxBytes: TIB };
      const error = catchError(() => createTemporaryDelta({ ...options, folder: mounted }));
      expect(error.code).toBe('UNSUPPORTED');
      expect(error.message).toContain(`the delta in ${mounted} would be a sparse file of ${17 * TIB} bytes`);
      const names = { imagePath: 'a', stateText: 'b', identity: 'c' };
      await expect(openKeptDelta(`${mounted}/delta`, { ...options, ...names })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
      });
      expect(runCommand('ls', ['-A', mounted])).toBe('lost+found\n');
      // The descriptors are closed: the unmount would fail.
    }),
  ));

test('a folder that cannot be written is named', () => {
  const error = catchError(() => createTemporaryDelta({ sizeBytes: 4096, maxBytes: 4096, folder: '/proc/self' }));
  expect(error.code).toBe('IO');
  expect(error.message).toMatch(/the folder \/proc\/self: .*; set TMPDIR/);
});

test('the file of a delta that is thrown away has no name', () =>
  withTemporaryFolder((folder) => {
    const memory = createTemporaryDelta({ sizeBytes: 10_000, maxBytes: 4096, folder });
    expect(runCommand('ls', ['-A', folder])).toBe('');
    closeDelta(memory);
  }));
