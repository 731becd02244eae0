/** Images of partitioned disks, with real file systems that hold other files in each state. */

import fs from 'node:fs';
import path from 'node:path';
import { createSnapshot } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { writeLinearVolume } from '../volumes/lvm/fill.ts';
import { createLinear, withLvm } from '../volumes/lvm/lvm-tools.ts';
import { MIB, runSfdisk } from '../volumes/partitioned-disk.ts';
import { fillFileSystem, makeSourceTree } from './block-devices.ts';

/** A volume with a file system. */
export interface FilledVolume {
  /** Its file in `volumes/`, without the ending. */
  readonly name: string;
  readonly type: string;
  readonly label: string;
  /** As blkid tells it. */
  readonly uuid: string;
  readonly sizeBytes: number;
  /** undefined for a logical volume. */
  readonly startBytes: number | undefined;
}

/** A state, and what is in it. */
export interface FilledState {
  /** Its folder in the mount. */
  readonly folder: string;
  /** The tree of files that each of its file systems has. */
  readonly source: string;
  /** What was written to the image. */
  readonly rawPath: string;
  /** What was written to the logical volume. */
  readonly logicalPath: string;
}

export interface PartitionedImage {
  readonly path: string;
  readonly volumes: readonly FilledVolume[];
  readonly states: readonly FilledState[];
}

interface Part {
  readonly type: string;
  readonly label: string;
  readonly sizeBytes: number;
  readonly startBytes: number | undefined;
  readonly mkfs: readonly string[];
}

/** mkfs.xfs refuses anything below 300 MiB, and mkfs.btrfs below 109 MiB. */
const PARTS: readonly Part[] = [
  { type: 'ext4', label: 'boot', startBytes: MIB, sizeBytes: 24 * MIB, mkfs: ['mkfs.ext4', '-q', '-L'] },
  { type: 'xfs', label: 'data', startBytes: 32 * MIB, sizeBytes: 300 * MIB, mkfs: ['mkfs.xfs', '-q', '-L'] },
  { type: 'btrfs', label: 'a/b', startBytes: 340 * MIB, sizeBytes: 120 * MIB, mkfs: ['mkfs.btrfs', '-q', '-L'] },
  { type: 'ext4', label: 'root', startBytes: undefined, sizeBytes: 24 * MIB, mkfs: ['mkfs.ext4', '-q', '-L'] },
];

const PHYSICAL = { startBytes: 464 * MIB, sizeBytes: 40 * MIB };
const DISK_BYTES = 512 * MIB;
const TABLE = [
  'label: gpt',
  'start=1MiB,size=24MiB,name="first"',
  'start=32MiB,size=300MiB,name="second part"',
  'start=340MiB,size=120MiB,name="third"',
  'start=464MiB,size=40MiB,type=lvm',
].join('\n');

/** An image with the snapshot `monday`: ext4, xfs and btrfs in partitions, and ext4 in a logical volume of two segments. */
export async function makePartitionedImage(folder: string): Promise<PartitionedImage> {
  const image = path.join(folder, 'disk.qcow2');
  const parts = PARTS.map(({ label, sizeBytes, mkfs: [command = '', ...args] }, index) => {
    const file = path.join(folder, `part${index + 1}`);
    makeEmptyFile(file, sizeBytes);
    runCommand(command, [...args, label, file]);
    return file;
  });
  const states: FilledState[] = [];
  await withLvm([PHYSICAL.sizeBytes], async (world) => {
    world.run('vgcreate', '-s', '1m', 'vg', ...world.devices);
    createLinear(world, 'vg', 'root', 16);
    createLinear(world, 'vg', 'between', 4);
    world.run('lvextend', '-l', '+8', 'vg/root');
    for (const device of world.devices) runCommand('blockdev', ['--flushbufs', fs.realpathSync(device)]);
    for (const [index, name] of ['snapshots/monday', 'current'].entries()) {
      const source = makeSourceTree(folder, 10 + index, `source${index}`);
      const rawPath = path.join(folder, `state${index}.raw`);
      const logicalPath = path.join(folder, `logical${index}`);
      makeEmptyFile(rawPath, DISK_BYTES);
      runSfdisk(rawPath, TABLE);
      for (const [place, file] of parts.entries()) {
        fillFileSystem(folder, file, source);
        const start = PARTS[place]?.startBytes;
        if (start !== undefined) copyInto(rawPath, start, file);
      }
      fs.copyFileSync(parts[3] ?? '', logicalPath);
      const segments = writeLinearVolume(world, 'vg/root', fs.readFileSync(logicalPath));
      if (segments !== 2) throw new Error(`the logical volume has ${segments} segments`);
      copyInto(rawPath, PHYSICAL.startBytes, world.files[0] ?? '');
      replaceDisk(image, rawPath);
      if (name !== 'current') createSnapshot(image, 'monday');
      states.push({ folder: name, source, rawPath, logicalPath });
    }
  });
  const volumes = PARTS.map(({ mkfs: _, ...part }, index) => ({
    ...part,
    name: part.startBytes === undefined ? 'vg-root' : `p${index + 1}`,
    uuid: runCommand('blkid', ['-p', '-s', 'UUID', '-o', 'value', parts[index] ?? '']).trim(),
  }));
  return { path: image, volumes, states };
}

/** Makes the image, or gives the one that is there this disk, as a guest would write it. */
export function replaceDisk(image: string, rawPath: string): void {
  const keep = fs.existsSync(image) ? ['-n'] : [];
  runCommand('qemu-img', ['convert', ...keep, '-f', 'raw', '-O', 'qcow2', rawPath, image]);
}

/** A small disk with this table for sfdisk, and an ext4 of 16 MiB at 1 MiB. */
export function makeSmallDisk(rawPath: string, table: string, label: string): void {
  const part = `${rawPath}.part`;
  makeEmptyFile(rawPath, SMALL_DISK_BYTES);
  runSfdisk(rawPath, table);
  makeEmptyFile(part, 16 * MIB);
  runCommand('mkfs.ext4', ['-q', '-L', label, part]);
  copyInto(rawPath, MIB, part);
  fs.rmSync(part);
}
export const SMALL_DISK_BYTES = 32 * MIB;

function makeEmptyFile(file: string, sizeBytes: number): void {
  fs.writeFileSync(file, '');
  fs.truncateSync(file, sizeBytes);
}

/** Holes stay holes. */
function copyInto(rawPath: string, startBytes: number, file: string): void {
  const place = [`seek=${startBytes}`, 'oflag=seek_bytes', 'bs=64k', 'conv=notrunc,sparse', 'status=none'];
  runCommand('dd', [`if=${file}`, `of=${rawPath}`, ...place]);
}
