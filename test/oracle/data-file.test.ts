/** Images with an external data file, beside QEMU, which finds the data file from the working directory. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { type ChainOptions, NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { dataRanges, listExtents, mappedRangesOf, mappedRangesOfQemu } from './extent-list.ts';

const SIZE = 12 * 1024 * 1024 + 1536;

/** Writes at both ends, zeros and discards in between; the first cluster of the guest is at offset 0 of the data file. */
function createImage(folder: string, options: string): void {
  const run = (command: string, ...args: string[]) => runCommand(command, args, { cwd: folder });
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=disk.data,${options}`, 'disk.qcow2', String(SIZE));
  const commands = [
    'write -P 1 0 100k',
    'write -P 2 3M 1M',
    'write -z 3584k 128k',
    'discard 3M 64k',
    `write -P 3 ${SIZE - 512} 512`,
  ];
  run('qemu-io', ...commands.flatMap((command) => ['-c', command]), 'disk.qcow2');
}

function readByUs(image: string, chain: ChainOptions = NO_CHAIN_OPTIONS) {
  const open = openImage(image, withoutKeys, chain);
  try {
    const disk = new StateDisks(open).disk(0);
    const bytes = Buffer.alloc(disk.sizeBytes);
    disk.readAt(bytes, 0, 0, bytes.length);
    return { bytes, extents: listExtents(disk) };
  } finally {
    closeImage(open);
  }
}

test.each([
  'cluster_size=64k',
  'cluster_size=64k,data_file_raw=on',
  'cluster_size=4k',
  'cluster_size=64k,extended_l2=on',
  'cluster_size=2M,data_file_raw=on,preallocation=metadata',
])('an image with an external data file reads as QEMU reads it (%s)', (options) =>
  withTemporaryFolder((folder) => {
    createImage(folder, options);
    runCommand('qemu-img', ['convert', '-O', 'raw', 'disk.qcow2', 'truth.raw'], { cwd: folder });
    const truth = fs.readFileSync(`${folder}/truth.raw`);
    const { bytes, extents } = readByUs(`${folder}/disk.qcow2`);
    expect(bytes.equals(truth)).toBe(true);
    for (const { start, end } of dataRanges(extents)) expect(end).toBeGreaterThan(start);
    const map = JSON.parse(runCommand('qemu-img', ['map', '--output=json', 'disk.qcow2'], { cwd: folder }));
    // QEMU looks for the holes of the data file as well.
    if (!options.includes('raw') && !options.includes('preallocation')) {
      expect(mappedRangesOf(extents).map(({ start, length, depth }) => ({ start, length, depth }))).toEqual(
        mappedRangesOfQemu(map).map(({ start, length, depth }) => ({ start, length, depth })),
      );
    }
  }),
);

test('a data file elsewhere is opened when it is named, and by its own name only when that is allowed', () =>
  withTemporaryFolder((folder) => {
    fs.mkdirSync(`${folder}/images`);
    createImage(folder, 'cluster_size=64k');
    const { bytes } = readByUs(`${folder}/disk.qcow2`);
    fs.renameSync(`${folder}/disk.qcow2`, `${folder}/images/disk.qcow2`);
    const image = `${folder}/images/disk.qcow2`;
    const missing = catchError(() => readByUs(image));
    expect(missing.code).toBe('NOT_FOUND');
    expect(missing.message).toContain(`needs its data file: ${folder}/images/disk.data: no such file`);
    expect(missing.message).toContain('--data-file');
    const named = readByUs(image, { allowedFolders: [], dataFilePath: `${folder}/disk.data` });
    expect(named.bytes.equals(bytes)).toBe(true);
    fs.symlinkSync('../disk.data', `${folder}/images/disk.data`);
    expect(catchError(() => readByUs(image)).code).toBe('REFUSED');
    expect(readByUs(image, { allowedFolders: [folder] }).bytes.equals(bytes)).toBe(true);
  }));

test('a data file that is cut is an error where bytes are missing, never zeros', () =>
  withTemporaryFolder((folder) => {
    createImage(folder, 'cluster_size=64k');
    fs.truncateSync(`${folder}/disk.data`, 1 << 20);
    const error = catchError(() => readByUs(`${folder}/disk.qcow2`));
    expect(error.code).toBe('PAST_END');
    expect(error.message).toContain('disk.data');
  }));
