/** Whether a snapshot still is there, on images that qemu-img changes under an open descriptor. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { meaningOf, readHead } from '../../src/qcow2/header-head.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { SnapshotLiveness } from '../../src/qcow2/snapshot-liveness.ts';
import { readSnapshotTable, Snapshots, snapshotIdentity } from '../../src/qcow2/snapshots.ts';
import { FileStorage, openFile } from '../../src/storage/file-storage.ts';
import { applySnapshot, createImage, createSnapshot, deleteSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
/** The place of `b` among `a`, `b`, `c`. */
const B = 1;

interface Opened {
  readonly image: string;
  readonly liveness: SnapshotLiveness;
}

/** An image with these snapshots, looked at by somebody who has read its table. */
function withSnapshots(names: readonly string[], body: (opened: Opened) => void, prepare?: (image: string) => void) {
  return withTemporaryFolder((folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: 4 * MIB });
    for (const [index, name] of names.entries()) {
      runQemuIo(image, [`write -q -P ${index + 1} 0 1M`]);
      createSnapshot(image, name);
    }
    prepare?.(image);
    const { fd, ...others } = openFile(image);
    try {
      const file = openQcow2(new FileStorage({ fd, ...others }));
      const snapshots = new Snapshots(readSnapshotTable(file).memory);
      body({ image, liveness: new SnapshotLiveness(file, readHead(file.storage, file), snapshots) });
    } finally {
      fs.closeSync(fd);
    }
  });
}

/** What the file says now. */
function look(image: string) {
  const { fd, ...others } = openFile(image);
  try {
    const file = openQcow2(new FileStorage({ fd, ...others }));
    const snapshots = new Snapshots(readSnapshotTable(file).memory);
    return { file, snapshots, sizeBytes: others.sizeBytes };
  } finally {
    fs.closeSync(fd);
  }
}

function patch(image: string, offset: number, bytes: Buffer): void {
  const fd = fs.openSync(image, 'r+');
  try {
    fs.writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    fs.closeSync(fd);
  }
}

const qemuImg = (...args: string[]) => runCommand('qemu-img', args);

describe('after a change of the image, a snapshot is', () => {
  const changes: [string, 'alive' | 'moved' | 'gone', (image: string) => void][] = [
    ['that nothing happened', 'alive', () => {}],
    ['that the guest wrote', 'alive', (image) => runQemuIo(image, ['write -q -P 99 0 4M'])],
    ['that another one was applied', 'alive', (image) => applySnapshot(image, 'a')],
    ['that a bitmap came', 'alive', (image) => qemuImg('bitmap', '--add', image, 'bitmap')],
    ['that lazy refcounts came', 'alive', (image) => qemuImg('amend', '-o', 'lazy_refcounts=on', image)],
    ['that the image became one of version 2', 'alive', (image) => qemuImg('amend', '-o', 'compat=0.10', image)],
    ['that the disk grew', 'alive', (image) => resizeImage(image, 64 * MIB)],
    ['that the image was marked corrupt', 'alive', (image) => patch(image, 79, Buffer.of(2))],
    ['that the one before it was deleted', 'moved', (image) => deleteSnapshot(image, 'a')],
    ['that the one behind it was deleted', 'moved', (image) => deleteSnapshot(image, 'c')],
    ['that one more was made', 'moved', (image) => createSnapshot(image, 'd')],
    ['that it was deleted', 'gone', (image) => deleteSnapshot(image, 'b')],
    ['that all were deleted', 'gone', (image) => ['a', 'b', 'c'].map((name) => deleteSnapshot(image, name))],
    [
      'that it was made anew',
      'gone',
      (image) => {
        deleteSnapshot(image, 'b');
        createSnapshot(image, 'b');
      },
    ],
    ['that it stands on something', 'gone', (image) => qemuImg('rebase', '-u', '-b', 'x', '-F', 'raw', image)],
    ['that the file is empty', 'gone', (image) => fs.truncateSync(image, 0)],
    ['that the file ends in its header', 'gone', (image) => fs.truncateSync(image, 50)],
    ['that the file ends behind its header', 'gone', (image) => fs.truncateSync(image, 4096)],
    ['that the header is nothing', 'gone', (image) => patch(image, 0, Buffer.alloc(4096))],
    ['that its clusters have another size', 'gone', (image) => patch(image, 23, Buffer.of(17))],
    [
      'that another image is in the file',
      'gone',
      (image) => {
        const other = `${image}.other`;
        createImage(other, { sizeBytes: 4 * MIB });
        for (const name of ['a', 'b', 'c']) createSnapshot(other, name);
        fs.copyFileSync(other, image);
      },
    ],
  ];
  test.each(changes)('%s: %s', (_, expected, change) =>
    withSnapshots(['a', 'b', 'c'], ({ image, liveness }) => {
      expect(liveness.check(B)).toBe('alive');
      change(image);
      expect(liveness.check(B)).toBe(expected);
      // What has moved is known at its new place from then on.
      expect(liveness.check(B)).toBe(expected === 'gone' ? 'gone' : 'alive');
    }),
  );
});

test('a snapshot that was made anew within its second is told by the nanoseconds alone', () =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: 4 * MIB });
    createSnapshot(image, 'first');
    for (;;) {
      const before = look(image);
      const { fd, ...others } = openFile(image);
      try {
        const file = openQcow2(new FileStorage({ fd, ...others }));
        const liveness = new SnapshotLiveness(file, readHead(file.storage, file), before.snapshots);
        expect(liveness.check(0)).toBe('alive');
        deleteSnapshot(image, 'first');
        createSnapshot(image, 'first');
        expect(liveness.check(0)).toBe('gone');
      } finally {
        fs.closeSync(fd);
      }
      const after = look(image);
      const [old, now] = [before.snapshots.at(0)?.entry, after.snapshots.at(0)?.entry];
      if (old?.dateSeconds !== now?.dateSeconds) continue;
      expect(after.file.header).toEqual(before.file.header);
      expect(after.snapshots.fileOffset(0)).toBe(before.snapshots.fileOffset(0));
      expect({ ...now, dateNanoseconds: old?.dateNanoseconds }).toEqual(old);
      expect(now?.dateNanoseconds).not.toBe(old?.dateNanoseconds);
      break;
    }
  }));

test('a table behind what was the end of the file is found', () =>
  withSnapshots(['a', 'b', 'c'], ({ image, liveness }) => {
    const { sizeBytes } = look(image);
    runQemuIo(image, ['write -q -P 9 0 4M']);
    createSnapshot(image, 'd');
    expect(look(image).file.header.snapshotsOffset).toBeGreaterThanOrEqual(sizeBytes);
    expect(liveness.check(B)).toBe('moved');
    expect(liveness.check(B)).toBe('alive');
  }));

test('a snapshot whose entry QEMU rewrites with more fields stays the same', () =>
  withSnapshots(
    ['a', 'b', 'c'],
    ({ image, liveness }) => {
      const before = look(image).snapshots;
      expect(before.at(B)?.entry).toMatchObject({ name: 'b', diskSizeBytes: undefined, icount: undefined });
      createSnapshot(image, 'd');
      const after = look(image).snapshots;
      expect(after.at(B)?.entry).toMatchObject({ name: 'b', diskSizeBytes: 4 * MIB });
      expect(liveness.check(B)).toBe('moved');
      expect(liveness.check(B)).toBe('alive');
      for (const index of [0, 1, 2]) {
        const [old, now] = [before.at(index), after.at(index)];
        expect(now && snapshotIdentity(now)).toBe(old && snapshotIdentity(old));
      }
    },
    removeExtraData,
  ));

test.each(['dirty', 'corrupt'])('the flag %s does not change what snapshots mean', (flag) =>
  withSnapshots(['a'], ({ image }) => {
    const before = meaningOf(look(image).file);
    patch(image, 79, Buffer.of(flag === 'dirty' ? 1 : 2));
    const { file } = look(image);
    expect(file.header.incompatibleFeatures).not.toBe(0n);
    expect(meaningOf(file)).toBe(before);
  }),
);

/** The table as the first versions of the format have it. */
function removeExtraData(image: string): void {
  const { file, snapshots } = look(image);
  const entries = [...snapshots].map((_, index) => {
    const raw = Buffer.from(snapshots.rawEntry(index));
    const names = raw.subarray(40 + raw.readUInt32BE(36));
    const entry = Buffer.alloc(Math.ceil((40 + names.length) / 8) * 8);
    raw.copy(entry, 0, 0, 36);
    names.copy(entry, 40);
    return entry;
  });
  patch(image, file.header.snapshotsOffset, Buffer.concat(entries));
}
