/** A check must stay small, whatever the image is. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type CheckResult, checkQcow2 } from '../../../src/qcow2/check/check-qcow2.ts';
import { openQcow2 } from '../../../src/qcow2/open-qcow2.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, u64 } from '../../fixtures/image-builder.ts';
import { CountingStorage } from '../../support/counting-storage.ts';
import { runCommand, tryCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';

const LAUNCHER = path.resolve(import.meta.dirname, '../../../bin/qcow2fs');
const MAX_RESIDENT_KIB = 150 * 1024;

/** Every cluster of 1 TiB is mapped: the file has 16 million clusters, most of them in no block of the disk. */
test('an image of 1 TiB is checked in bounded memory', () =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/large.qcow2`;
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', image, '1T']);
    const report = `${folder}/memory`;
    const reporter = `${folder}/reporter.mjs`;
    fs.writeFileSync(
      reporter,
      `import fs from 'node:fs';
      process.on('exit', () => fs.writeFileSync(${JSON.stringify(report)}, String(process.resourceUsage().maxRSS)));`,
    );
    const { status, stdout } = tryCommand(LAUNCHER, ['check', '--json', image], {
      env: { NODE_OPTIONS: `--import=${reporter}` },
    });
    expect([status, JSON.parse(stdout)]).toMatchObject([0, { isClean: true, allocatedClusters: 2 ** 24 }]);
    expect(Number(fs.readFileSync(report, 'utf8'))).toBeLessThan(MAX_RESIDENT_KIB);
  }));

/** All clusters at one place each: header, refcount table, one block, L1, L2, one data cluster, snapshot table. */
function checkWithSnapshots(count: number): { result: CheckResult; bytesRead: number } {
  const cluster = 65536;
  const entries = Array.from({ length: count }, (_, index) =>
    encodeSnapshotEntry({
      id: String(index + 1),
      name: '',
      extra: Buffer.alloc(16),
      l1TableOffset: BigInt(7 + index) << 16n,
    }),
  );
  const l1 = u64(4n << 16n);
  const refcounts = Buffer.alloc(cluster);
  const set = (index: number, value: number) => refcounts.writeUInt16BE(value, index * 2);
  for (let index = 0; index < 7 + count; index++) set(index, 1);
  set(4, count + 1);
  set(5, count + 1);
  const storage = new CountingStorage(
    buildImage((7 + count) * cluster, [
      [0, encodeHeader({ snapshotCount: count, snapshotsOffset: 6n << 16n })],
      [1 * cluster, u64(2n << 16n)],
      [2 * cluster, refcounts],
      [3 * cluster, l1],
      [4 * cluster, u64(5n << 16n)],
      [6 * cluster, Buffer.concat(entries)],
      ...entries.map((_, index) => [(7 + index) * cluster, l1] as const),
    ]),
  );
  return { result: checkQcow2(openQcow2(storage)), bytesRead: storage.bytesRead };
}

test('a table that a thousand snapshots share is read once', () => {
  const few = checkWithSnapshots(1);
  const many = checkWithSnapshots(1000);
  for (const { result } of [few, many]) {
    expect([result.corruptionCount, result.leakedClusterCount, result.uncheckedCount]).toEqual([0, 0, 0]);
  }
  // Each snapshot costs its entry and its L1 table of 8 bytes, read as a part of every step; the L2 table has 64 KiB.
  expect((many.bytesRead - few.bytesRead) / 999).toBeLessThan(256);
});
