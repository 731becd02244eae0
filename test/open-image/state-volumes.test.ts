/** The volumes of a state, looked for while QEMU changes the image under the search. */

import fs from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { ImageStatus } from '../../src/open-image/image-status.ts';
import { closeImage, type OpenImage, openSettledImage } from '../../src/open-image/open-image.ts';
import { StateFiles } from '../../src/open-image/state-files.ts';
import { makeSmallDisk, replaceDisk, SMALL_DISK_BYTES } from '../mounted/partitioned-image.ts';
import { createSnapshot, deleteSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const CURRENT = 0;
const MONDAY = 1;
const LABELS = ['one:old'];
/** Growing steps bring the last ones behind the end of the search. */
const MOMENT_COUNT = 24;

afterEach(() => {
  vi.restoreAllMocks();
});

/** Runs `body` with a disk with one partition, in the snapshot `monday` and, with another label, in the current state. */
async function withPartitionedImage(
  body: (image: string, open: OpenImage, status: ImageStatus) => void | Promise<void>,
  attempts = 1,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const first = `${folder}/first.qcow2`;
    for (const label of ['old', 'new']) {
      makeSmallDisk(`${folder}/raw`, 'label: gpt\nstart=1MiB,size=16MiB,name="one"\n', label);
      replaceDisk(first, `${folder}/raw`);
      if (label === 'old') createSnapshot(first, 'monday');
    }
    for (let attempt = 0; attempt < attempts; attempt++) {
      const image = `${folder}/disk${attempt}.qcow2`;
      fs.copyFileSync(first, image);
      const open = await openSettledImage(image);
      try {
        await body(image, open, new ImageStatus(ImageStatus.createMemory()));
      } finally {
        closeImage(open);
        fs.rmSync(image);
      }
    }
  });
}

/** The names of partition and file system of each volume; the code of the error instead. */
function labelsOf(files: StateFiles, state: number): string[] | string {
  try {
    const { volumes } = files.volumes(state).list;
    return volumes.map(({ partition, fileSystem }) => `${partition?.name}:${fileSystem?.label}`);
  } catch (error) {
    if (error instanceof Qcow2fsError) return error.code;
    throw error;
  }
}

test('those of a snapshot are its own or STALE, also if it is deleted and its clusters get other data meanwhile', async () => {
  const outcomes: (string[] | string)[] = [];
  let moment = 0;
  await withPartitionedImage((image, open, status) => {
    const files = new StateFiles(open, status);
    const { readSync } = fs;
    let count = 0;
    vi.spyOn(fs, 'readSync').mockImplementation(((...args: Parameters<typeof readSync>) => {
      if (count++ === moment) {
        deleteSnapshot(image, 'monday');
        runQemuIo(image, [`write -q -P 0xfe 0 ${SMALL_DISK_BYTES}`]);
      }
      return readSync(...args);
    }) as typeof readSync);
    const found = labelsOf(files, MONDAY);
    vi.restoreAllMocks();
    if (count > moment) outcomes.push(found);
    moment += 1 + Math.floor(moment / 4);
  }, MOMENT_COUNT);
  // The last attempts ended before their moment.
  expect(outcomes.length).toBeLessThan(MOMENT_COUNT);
  expect(outcomes).toContain('STALE');
  for (const found of outcomes) expect(['STALE', LABELS]).toContainEqual(found);
});

test('those of the current state are BUSY while somebody writes, and are told afterwards', () =>
  withPartitionedImage((_, open, status) => {
    const files = new StateFiles(open, status);
    status.isBusy = true;
    expect(labelsOf(files, CURRENT)).toBe('BUSY');
    expect(labelsOf(files, MONDAY)).toEqual(LABELS);
    status.isBusy = false;
    expect(labelsOf(files, CURRENT)).toEqual(['one:new']);
  }));

test('those of a current state that is read live are not looked for, and that is told', () =>
  withPartitionedImage((_, open, status) => {
    const files = new StateFiles(open, status, undefined, true);
    expect(labelsOf(files, CURRENT)).toEqual([]);
    expect(files.volumes(CURRENT).list.problems).toHaveLength(1);
    expect(labelsOf(files, MONDAY)).toEqual(LABELS);
  }));

test('a volume that was found is STALE once its snapshot is gone', () =>
  withPartitionedImage((image, open, status) => {
    const [file] = new StateFiles(open, status).volumes(MONDAY).files;
    if (file === undefined) throw new Error('no volume');
    file.readAt(Buffer.alloc(512), 0, 1024, 512);
    deleteSnapshot(image, 'monday');
    expect(catchError(() => file.readAt(Buffer.alloc(512), 0, 1024, 512)).code).toBe('STALE');
    expect(catchError(() => file.seekData(0)).code).toBe('STALE');
    expect(catchError(() => file.allocatedBytes()).code).toBe('STALE');
  }));
