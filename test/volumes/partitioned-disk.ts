/** Disks with partition tables: made by sfdisk and sgdisk, changed by hand, and read by us and by the tools. */

import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { expect } from 'vitest';
import { RawDisk } from '../../src/raw/raw-disk.ts';
import { FileStorage, openFile } from '../../src/storage/file-storage.ts';
import { readPartitionTable } from '../../src/volumes/partition-table.ts';
import type { PartitionTable } from '../../src/volumes/partitions.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

export const MIB = 1024 * 1024;
const UTF8 = { env: { LC_ALL: 'C.UTF-8' } };

/** What `sfdisk -J` says of a partition, as far as it is the same for both kinds of tables. */
interface SfdiskPartition {
  readonly node: string;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly uuid?: string;
  readonly name?: string;
  readonly attrs?: string;
  readonly bootable?: boolean;
}

interface SfdiskTable {
  readonly label: string;
  readonly id: string;
  readonly sectorsize: number;
  readonly partitions?: readonly SfdiskPartition[];
}

/** A sparse file, which is gone afterwards. */
export async function withDisk(sizeBytes: number, body: (path: string) => void | Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const path = `${folder}/disk.img`;
    fs.closeSync(fs.openSync(path, 'w'));
    fs.truncateSync(path, sizeBytes);
    await body(path);
  });
}

/** A loop device with sectors of 4096 bytes. */
export function withLargeSectors(path: string, body: (device: string) => void): void {
  const device = runCommand('losetup', ['--find', '--show', '--sector-size', '4096', path]).trim();
  try {
    body(device);
  } finally {
    runCommand('losetup', ['-d', device]);
  }
}

/** Runs a script of sfdisk, which says on standard error that the kernel here cannot read tables of loop devices. */
export function runSfdisk(path: string, script: string, options: readonly string[] = []): void {
  runCommand('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', ...options, path], { ...UTF8, input: script });
}

export function runSgdisk(path: string, ...args: string[]): void {
  runCommand('sgdisk', [...args, path], UTF8);
}

export function readByUs(path: string): PartitionTable | undefined {
  const file = openFile(path);
  try {
    return readPartitionTable(new RawDisk(new FileStorage(file)));
  } finally {
    fs.closeSync(file.fd);
  }
}

/** The table that must be there. */
export function tableOf(path: string): PartitionTable {
  const table = readByUs(path);
  if (table === undefined) throw new Error(`${path}: no table`);
  return table;
}

/** Fails unless our table is that of sfdisk (libfdisk) and of partx (libblkid); `device` is what they shall read instead. */
export function expectSameAsTools(path: string, device = path): PartitionTable {
  const table = tableOf(path);
  expect(describe(table)).toEqual(readBySfdisk(device));
  expect(
    table.partitions.map(({ number, startBytes, sizeBytes, uuid }) => [number, startBytes, sizeBytes, uuid]),
  ).toEqual(readByPartx(device));
  return table;
}

function describe({ kind, uuid, sectorBytes, partitions }: PartitionTable) {
  return {
    ...{ kind, uuid, sectorBytes },
    partitions: partitions.map(({ number, startBytes, sizeBytes, type, name, uuid: partitionUuid, isBootable }) => {
      // sfdisk has no PARTUUID of an MBR partition.
      return {
        number,
        startBytes,
        sizeBytes,
        type,
        name,
        isBootable,
        uuid: kind === 'gpt' ? partitionUuid : undefined,
      };
    }),
  };
}

function readBySfdisk(path: string) {
  const json: { partitiontable: SfdiskTable } = JSON.parse(runCommand('sfdisk', ['--json', path], UTF8));
  const { label, id, sectorsize, partitions = [] } = json.partitiontable;
  return {
    kind: label,
    uuid: id.replace(/^0x/, '').toLowerCase(),
    sectorBytes: sectorsize,
    partitions: partitions.map(({ node, start, size, type, uuid, name, attrs = '', bootable = false }) => ({
      number: Number(/\d+$/.exec(node)?.[0]),
      startBytes: start * sectorsize,
      sizeBytes: size * sectorsize,
      ...{ type, name, uuid: uuid?.toLowerCase() },
      isBootable: bootable || attrs.includes('LegacyBIOSBootable'),
    })),
  };
}

/** Number, start, size, PARTUUID; partx counts in sectors of 512 bytes whatever the disk has. */
export function readByPartx(path: string): (readonly [number, number, number, string])[] {
  const columns = ['--bytes', '--raw', '--noheadings', '--output', 'NR,START,SIZE,UUID'];
  const { stdout } = tryCommand('partx', [...columns, path]);
  return stdout.split('\n').flatMap((line) => {
    const [number, start, size, uuid] = line.split(' ');
    return uuid === undefined ? [] : [[Number(number), Number(start) * 512, Number(size), uuid] as const];
  });
}

/** The type of the table that libblkid finds beside file systems. */
export function tableTypeByBlkid(path: string): string {
  return tryCommand('blkid', ['--probe', '--match-tag', 'PTTYPE', '--output', 'value', path]).stdout.trim();
}

export function readBytes(path: string, offset: number, length: number): Buffer {
  const fd = fs.openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    fs.readSync(fd, bytes, 0, length, offset);
    return bytes;
  } finally {
    fs.closeSync(fd);
  }
}

export function writeBytes(path: string, offset: number, bytes: Buffer): void {
  const fd = fs.openSync(path, 'r+');
  try {
    fs.writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    fs.closeSync(fd);
  }
}

/** Turns the bits of one byte around. */
export function damageByte(path: string, offset: number): void {
  writeBytes(path, offset, Buffer.from([(readBytes(path, offset, 1)[0] as number) ^ 0xff]));
}

/** Changes a GPT in memory (the header in `lba`), and makes its checksums right again. */
export function changeGpt(
  path: string,
  change: (header: Buffer, entries: Buffer) => void,
  { lba = 1, sectorBytes = 512 } = {},
): void {
  const header = readBytes(path, lba * sectorBytes, sectorBytes);
  const entriesOffset = Number(header.readBigUInt64LE(72)) * sectorBytes;
  const entries = readBytes(path, entriesOffset, header.readUInt32LE(80) * header.readUInt32LE(84));
  change(header, entries);
  header.writeUInt32LE(crc32(entries), 88);
  header.writeUInt32LE(0, 16);
  header.writeUInt32LE(crc32(header.subarray(0, Math.min(header.readUInt32LE(12), sectorBytes))), 16);
  writeBytes(path, entriesOffset, entries);
  writeBytes(path, lba * sectorBytes, header);
}

/** A record of four entries: an MBR or an EBR. */
export function encodeRecord(entries: readonly (readonly [type: number, start: number, count: number])[]): Buffer {
  const bytes = Buffer.alloc(512);
  entries.forEach(([type, start, count], index) => {
    bytes.writeUInt8(type, 446 + index * 16 + 4);
    bytes.writeUInt32LE(start, 446 + index * 16 + 8);
    bytes.writeUInt32LE(count, 446 + index * 16 + 12);
  });
  bytes.writeUInt16BE(0x55aa, 510);
  return bytes;
}
