/**
 * Reads of a state while QEMU changes the image under them. A real qemu-img runs at a chosen pread(2) of the read, and so at
 * each of them in turn.
 */

import fs from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type * as SystemCalls from '../../src/common/system-calls.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { ImageStatus } from '../../src/open-image/image-status.ts';
import { closeImage, type OpenImage, openSettledImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { type StateFile, StateFiles } from '../../src/open-image/state-files.ts';
import { convertToRaw, createImage, createSnapshot, deleteSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const DISK_BYTES = 4 * 1024 * 1024;
const CLUSTER_BYTES = 65_536;
/** The state of `b` among `a`, `b`, `c`. */
const B = 2;

/** Called before each pread(2), by whichever way that is made. */
const hook = vi.hoisted(() => ({ beforeRead: () => {} }));

vi.mock('../../src/common/system-calls.ts', async (importOriginal) => {
  const original = await importOriginal<typeof SystemCalls>();
  const readFile: typeof original.readFile = (...args) => {
    hook.beforeRead();
    return original.readFile(...args);
  };
  return { ...original, readFile };
});

afterEach(() => {
  hook.beforeRead = () => {};
});

interface Live {
  readonly image: string;
  readonly open: OpenImage;
  readonly status: ImageStatus;
  readonly files: StateFiles;
  /** What `b` holds for QEMU. */
  readonly truth: Buffer;
}

/** An image whose snapshots have all clusters of their own, and whose current state has others. */
async function withLiveImage(body: (live: Live) => void, options: readonly string[] = []): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: DISK_BYTES, options });
    for (const [index, name] of ['a', 'b', 'c'].entries()) {
      runQemuIo(image, [`write -q -P ${index + 1} 0 1M`, `write -q -P ${index + 0x41} 2M 1M`]);
      createSnapshot(image, name);
      if (name === 'b') convertToRaw(image, `${folder}/truth.raw`);
    }
    const open = await openSettledImage(image);
    try {
      const status = new ImageStatus(ImageStatus.createMemory());
      const truth = fs.readFileSync(`${folder}/truth.raw`);
      body({ image, open, status, files: new StateFiles(open, status), truth });
    } finally {
      closeImage(open);
    }
  });
}

/** What was freed becomes data of the current state: one by one, as QEMU wants room for a longer write in one piece. */
function reuseFreeClusters(image: string): void {
  const offsets = Array.from({ length: DISK_BYTES / CLUSTER_BYTES }, (_, index) => index * CLUSTER_BYTES);
  runQemuIo(
    image,
    offsets.map((offset) => `write -q -P 0xfe ${offset} ${CLUSTER_BYTES}`),
  );
}

const deleteB = (image: string) => {
  deleteSnapshot(image, 'b');
  reuseFreeClusters(image);
};

/** Runs `action` before the n-th pread(2) from now on, counted from 0. Returns how many there were so far. */
function beforeRead(n: number, action: () => void): () => number {
  let count = 0;
  hook.beforeRead = () => {
    if (count++ === n) action();
  };
  return () => count;
}

/** What the guest finds in the whole state: its bytes, or the code of the error. */
function readAll(file: Pick<StateFile, 'readAt'>): Buffer | string {
  const target = Buffer.alloc(DISK_BYTES);
  try {
    file.readAt(target, 0, 0, DISK_BYTES);
    return target;
  } catch (error) {
    if (error instanceof Qcow2fsError) return error.code;
    throw error;
  }
}

describe.each([
  ['an image that nobody wrote to before', () => {}],
  ['an image that was written to before', (image: string) => runQemuIo(image, ['write -q -P 0x77 3M 64k'])],
])('%s: whatever happens at whichever moment of a read', (_title, prepare) => {
  const changes: [string, 'survives' | 'goes', (image: string) => void][] = [
    ['it is deleted', 'goes', deleteB],
    [
      'it is made anew',
      'goes',
      (image) => {
        deleteB(image);
        createSnapshot(image, 'b');
      },
    ],
    [
      'another one is deleted',
      'survives',
      (image) => {
        deleteSnapshot(image, 'a');
        reuseFreeClusters(image);
      },
    ],
    ['another one is made', 'survives', (image) => createSnapshot(image, 'd')],
    ['the guest writes', 'survives', reuseFreeClusters],
    ['the file is emptied', 'goes', (image) => fs.truncateSync(image)],
  ];
  test.each(changes)('a snapshot gives its bytes or ESTALE: %s', async (_, fate, change) => {
    const outcomes: string[] = [];
    for (let moment = 0; ; moment++) {
      let count = 0;
      await withLiveImage(({ image, files, truth, status }) => {
        prepare(image);
        const reads = beforeRead(moment, () => change(image));
        const found = readAll(files.disk(B));
        count = reads();
        if (count <= moment) return;
        if (fate === 'survives' || typeof found !== 'string') expect(truth.equals(found as Buffer)).toBe(true);
        else expect(found).toBe('STALE');
        outcomes.push(typeof found === 'string' ? found : 'bytes');
        expect(status.refusedReadCount).toBe(found === 'STALE' ? 1n : 0n);
      });
      if (count <= moment) break;
    }
    expect(outcomes.length).toBeGreaterThan(2);
    expect(outcomes.includes('STALE')).toBe(fate === 'goes');
  });
});

test('without the check, a snapshot that is gone gives bytes of others, or errors about tables that are none', () =>
  withLiveImage(({ image, open, truth }) => {
    const disks = new StateDisks(open);
    const half = Buffer.alloc(512);
    disks.disk(B).readAt(half, 0, 0, 512);
    deleteB(image);
    const withOldTables = readAll(disks.disk(B));
    expect(typeof withOldTables).toBe('object');
    expect(truth.equals(withOldTables as Buffer)).toBe(false);
    expect(readAll(new StateDisks(open).disk(B))).toBe('DAMAGED');
  }));

test('an error about what stands in the place of its tables is never given for a snapshot that is gone', () =>
  withLiveImage(({ image, files }) => {
    deleteB(image);
    const file = files.disk(B);
    const attempts: (() => unknown)[] = [
      () => file.readAt(Buffer.alloc(512), 0, 0, 512),
      () => file.seekData(0),
      () => file.seekHole(0),
      () => file.allocatedBytes(),
      () => files.requireReadable(B),
    ];
    for (const attempt of attempts) expect(catchError(attempt).code).toBe('STALE');
  }));

test('a read under which the table moved is done again, once', () =>
  withLiveImage(({ image, files, truth, status }) => {
    const file = files.disk(B);
    expect(truth.equals(readAll(file) as Buffer)).toBe(true);
    expect(status.repeatedReadCount).toBe(0n);
    deleteSnapshot(image, 'a');
    expect(truth.equals(readAll(file) as Buffer)).toBe(true);
    expect(status.repeatedReadCount).toBe(1n);
    expect(truth.equals(readAll(file) as Buffer)).toBe(true);
    expect(file.seekData(0)).toBe(0);
    expect(file.seekHole(0)).toBe(1024 * 1024);
    expect([status.repeatedReadCount, status.refusedReadCount]).toEqual([1n, 0n]);
  }));

test('inflated clusters of a snapshot that is gone are not shown for another one', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: DISK_BYTES });
    for (const value of [1, 2]) {
      runQemuIo(image, [`write -q -c -P ${value} 0 64k`]);
      createSnapshot(image, String(value));
      runQemuIo(image, ['discard -q 0 64k']);
    }
    const open = await openSettledImage(image);
    try {
      const files = new StateFiles(open, new ImageStatus(ImageStatus.createMemory()));
      const target = Buffer.alloc(65536);
      deleteSnapshot(image, '1');
      runQemuIo(image, ['write -q -c -P 9 64k 64k']);
      expect(catchError(() => files.disk(1).readAt(target, 0, 0, 65536)).code).toBe('STALE');
      files.disk(2).readAt(target, 0, 0, 65536);
      expect(target.equals(Buffer.alloc(65536, 2))).toBe(true);
    } finally {
      closeImage(open);
    }
  }));

describe('the current state', () => {
  test('is STALE from the first byte that is written on', () =>
    withLiveImage(({ image, files }) => {
      const file = files.disk(0);
      expect(typeof readAll(file)).toBe('object');
      runQemuIo(image, ['write -q -P 7 3M 512']);
      expect(readAll(file)).toBe('STALE');
      expect(catchError(() => files.requireReadable(0)).code).toBe('STALE');
    }));

  test('is STALE when it is written to in the middle of a read', () =>
    withLiveImage(({ image, files }) => {
      const reads = beforeRead(1, () => runQemuIo(image, ['write -q -P 7 0 1M']));
      expect(readAll(files.disk(0))).toBe('STALE');
      expect(reads()).toBeGreaterThan(1);
    }));

  test('is not read while somebody writes, and its snapshots are', () =>
    withLiveImage(({ files, status, truth }) => {
      status.isBusy = true;
      expect(catchError(() => files.requireReadable(0)).code).toBe('BUSY');
      expect(readAll(files.disk(0))).toBe('STALE');
      expect(truth.equals(readAll(files.disk(B)) as Buffer)).toBe(true);
      status.isBusy = false;
      files.requireReadable(0);
      expect(typeof readAll(files.disk(0))).toBe('object');
      expect(status.refusedReadCount).toBe(1n);
    }));
});

test('a backing file that changes makes its snapshots STALE too', () =>
  withTemporaryFolder(async (folder) => {
    const base = `${folder}/base.raw`;
    fs.writeFileSync(base, Buffer.alloc(DISK_BYTES, 5));
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: DISK_BYTES, backing: { name: 'base.raw', format: 'raw' } });
    createSnapshot(image, 'a');
    const open = await openSettledImage(image);
    try {
      const files = new StateFiles(open, new ImageStatus(ImageStatus.createMemory()));
      expect(Buffer.alloc(DISK_BYTES, 5).equals(readAll(files.disk(1)) as Buffer)).toBe(true);
      runCommand('qemu-io', ['-f', 'raw', '-c', 'write -q -P 6 0 512', base]);
      const error = catchError(() => files.disk(1).readAt(Buffer.alloc(512), 0, 0, 512));
      expect(error.code).toBe('STALE');
      expect(error.message).toContain(base);
    } finally {
      closeImage(open);
    }
  }));
