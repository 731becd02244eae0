/** What an image holds of its external data file, beside QEMU: there, the cluster at offset 0 is one like any other. */

import { expect, test } from 'vitest';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { measureSpace } from '../../src/open-image/measure-space.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { withSteadyImage } from '../../src/open-image/steady-image.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { DamagedImage } from './damaged-image.ts';
import { expectSameCheck } from './expect-same-check.ts';
import { expectSameMap } from './expect-same-map.ts';
import { dataRanges, listExtents } from './extent-list.ts';
import { checkWithQemu, createImage, mapImage, mapText, runQemuIo } from './qemu.ts';

const MIB = 1024 * 1024;
const CLUSTER_BYTES = 65_536;

const OPTIONS = ['data_file_raw=off', 'data_file_raw=on', 'extended_l2=on', 'extended_l2=on,data_file_raw=on'];

const WRITES: readonly (readonly string[])[] = [
  ['write 0 64k'],
  ['write 0 1M', 'write -z 2M 64k'],
  ['write 0 256k', 'write -z 0 128k'],
  ['write 0 256k', 'write -z -u 0 128k', 'write -z 0 64k'],
  ['write 0 256k', 'discard 0 128k'],
  ['write -z 0 128k'],
  ['write 64k 64k'],
  ['write 0 8k', 'write -z 8k 4k'],
];

const CASES = OPTIONS.flatMap((option) => WRITES.map((writes) => [writes.join(', '), option, writes] as const));

function withDataFile(option: string, writes: readonly string[], use: (image: string) => void): Promise<void> {
  return withTemporaryFolder((folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: 4 * MIB, options: [`data_file=${folder}/disk.data`, option] });
    runQemuIo(
      image,
      writes.map((write) => write.replace(' ', ' -q ')),
    );
    use(image);
  });
}

function measure(image: string) {
  return withSteadyImage(image, (header, file) => {
    const space = measureSpace(header, file, { chosen: [], writerOf: () => undefined });
    return { usage: space.usageOf(0), problems: space.problems };
  });
}

function readDisk(image: string) {
  const open = openImage(image, withoutKeys, NO_CHAIN_OPTIONS);
  try {
    const disk = new StateDisks(open).disk(0);
    return { allocatedBytes: disk.allocatedBytes(), data: dataRanges(listExtents(disk)) };
  } finally {
    closeImage(open);
  }
}

function dataRangesOfQemu(image: string) {
  const ranges: { start: number; end: number }[] = [];
  for (const { start, length } of mapImage(image).filter(({ data }) => data)) {
    const last = ranges.at(-1);
    if (last?.end === start) last.end += length;
    else ranges.push({ start, end: start + length });
  }
  return ranges;
}

test.each(CASES)('after %s (%s), all clusters count', (title, option, writes) =>
  withDataFile(option, writes, (image) => {
    const { usage, problems } = measure(image);
    expect(problems).toEqual([]);
    const allocatedClusters = checkWithQemu(image).counts?.['allocated-clusters'] ?? 0;
    expect(usage).toMatchObject({
      referBytes: allocatedClusters * CLUSTER_BYTES,
      usedBytes: allocatedClusters * CLUSTER_BYTES,
    });
    expectSameCheck(image, title);
    expectSameMap(image, { snapshot: undefined, title, rawPath: '', map: mapText(image) }, title);
    const data = dataRangesOfQemu(image);
    const dataBytes = data.reduce((sum, { start, end }) => sum + end - start, 0);
    expect(usage?.writtenBytes).toBe(dataBytes);
    expect(readDisk(image)).toEqual({ allocatedBytes: dataBytes, data });
  }),
);

test('a compressed cluster, which no such image may have, takes nothing of either file', () =>
  withDataFile('data_file_raw=off', ['write 0 128k'], (path) => {
    const image = new DamagedImage(path);
    const [entry] = image.dataEntries;
    if (entry === undefined) throw new Error('nothing is mapped');
    image.writeU64(entry.position, 1n << 62n);
    image.close();
    const { usage, problems } = measure(path);
    expect(problems).toEqual([]);
    expect((usage?.referBytes ?? -1) / CLUSTER_BYTES).toBe(checkWithQemu(path).counts?.['allocated-clusters']);
  }));
