import { crc32 } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { type ErrorCode, Qcow2fsError } from '../../src/errors.ts';
import { RawDisk } from '../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { readPartitionTable } from '../../src/volumes/partition-table.ts';
import { Random } from '../oracle/random.ts';
import { catchError } from '../support/catch-error.ts';
import { CountingStorage } from '../support/counting-storage.ts';
import { MIB, readBytes, runSfdisk, withDisk, withLargeSectors } from './partitioned-disk.ts';

/** `TABLE_SEED` damages other places. */
const SEED = Number(process.env.TABLE_SEED ?? 1);
const ROUNDS = 2000;
const DISK_BYTES = 16 * MIB;
const LAST_LBA = DISK_BYTES / 512 - 1;
/** For each of two sector sizes a primary and two places of a backup, each with 4 MiB of entries at most; and then some. */
const MAX_BYTES_READ = 25 * MIB;

const GPT_SCRIPT = 'label: gpt\nsize=1M, name="a"\nsize=1M\nsize=2M, name="b"\n';
const MBR_SCRIPT = [
  ...['label: dos', 'label-id: 0x12345678', 'p1 : size=1M', 'p2 : size=12M, type=5'],
  ...['p5 : size=1M', 'p6 : size=1M', 'p7 : size=1M', ''],
].join('\n');

const disks: Record<'gpt' | 'dos' | 'gpt4k' | 'dos4k', Buffer> = {
  gpt: Buffer.alloc(0),
  dos: Buffer.alloc(0),
  gpt4k: Buffer.alloc(0),
  dos4k: Buffer.alloc(0),
};

beforeAll(async () => {
  for (const [kind, script] of [
    ['gpt', GPT_SCRIPT],
    ['dos', MBR_SCRIPT],
  ] as const) {
    await withDisk(DISK_BYTES, (path) => {
      runSfdisk(path, script);
      disks[kind] = readBytes(path, 0, DISK_BYTES);
    });
    await withDisk(DISK_BYTES, (path) => {
      withLargeSectors(path, (device) => runSfdisk(device, script));
      disks[`${kind}4k`] = readBytes(path, 0, DISK_BYTES);
    });
  }
});

/** A disk of which reads of some bytes fail. */
function failing(bytes: Buffer, code: ErrorCode, ranges: readonly (readonly [start: number, end: number])[]): Disk {
  const disk = new RawDisk(new BufferStorage(bytes));
  return {
    sizeBytes: disk.sizeBytes,
    extentAt: (offset, maxLengthBytes, into) => disk.extentAt(offset, maxLengthBytes, into),
    allocatedBytes: () => disk.allocatedBytes(),
    metadataBytes: () => 0,
    readAt: (target, targetOffset, offset, length) => {
      if (ranges.some(([start, end]) => offset < end && start < offset + length)) {
        throw new Qcow2fsError(code, 'a cluster is damaged');
      }
      disk.readAt(target, targetOffset, offset, length);
    },
  };
}

function numbersOf(disk: Disk): number[] | undefined {
  return readPartitionTable(disk)?.partitions.map(({ number }) => number);
}

describe.each(['DAMAGED', 'PAST_END', 'IO'] as const)('a part of the disk fails with %s', (code) => {
  test('the primary GPT: its backup is used', () => {
    const table = readPartitionTable(failing(disks.gpt, code, [[512, 65_536]]));
    expect(table?.partitions.map(({ number }) => number)).toEqual([1, 2, 3]);
    expect(table?.problems).toEqual([expect.stringContaining('it cannot be read: a cluster is damaged')]);
  });

  test('only the entries, or the MBR as well: its backup is used', () => {
    expect(numbersOf(failing(disks.gpt, code, [[1024, 65_536]]))).toEqual([1, 2, 3]);
    expect(numbersOf(failing(disks.gpt, code, [[0, 65_536]]))).toEqual([1, 2, 3]);
  });

  test('the backup GPT: it is told', () => {
    const table = readPartitionTable(failing(disks.gpt, code, [[LAST_LBA * 512, DISK_BYTES]]));
    expect(table?.partitions).toHaveLength(3);
    expect(table?.problems).toEqual([expect.stringContaining(`the backup GPT in sector ${LAST_LBA} is not valid`)]);
  });

  test('the MBR: it is told', () => {
    expect(readPartitionTable(failing(disks.dos, code, [[0, 512]]))).toMatchObject({
      partitions: [],
      problems: ['the first sector: it cannot be read: a cluster is damaged'],
    });
  });

  test('an extended boot record: the partitions before it are left', () => {
    const whole = readPartitionTable(new RawDisk(new BufferStorage(disks.dos)));
    const second = whole?.partitions.find(({ number }) => number === 6)?.startBytes ?? 0;
    const first = whole?.partitions.find(({ number }) => number === 5);
    const table = readPartitionTable(
      failing(disks.dos, code, [[(first?.startBytes ?? 0) + (first?.sizeBytes ?? 0), second]]),
    );
    expect(whole?.partitions.map(({ number }) => number)).toEqual([1, 2, 5, 6, 7]);
    expect(table?.partitions.map(({ number }) => number)).toEqual([1, 2, 5]);
    expect(table?.problems).toEqual([expect.stringContaining('a cluster is damaged')]);
  });
});

test.each(['STALE', 'BUSY', 'LOCKED'] as const)('%s concerns more than a table, and passes through', (code) => {
  const places = [
    ...([
      [disks.gpt, 0],
      [disks.gpt, 512],
      [disks.gpt, 1024],
      [disks.gpt, LAST_LBA * 512],
      [disks.dos, 0],
    ] as const),
    ...([
      [disks.dos, readPartitionTable(new RawDisk(new BufferStorage(disks.dos)))?.partitions[1]?.startBytes ?? 0],
    ] as const),
  ];
  for (const [bytes, offset] of places) {
    const disk = failing(bytes, code, [[offset, offset + 512]]);
    expect(catchError(() => readPartitionTable(disk)).code, String(offset)).toBe(code);
  }
});

/** Ranges of a disk in which something is written, in pieces of 512 bytes. */
function writtenSectors(bytes: Buffer): number[] {
  const zeros = Buffer.alloc(512);
  const sectors: number[] = [];
  for (let at = 0; at < bytes.length; at += 512) {
    if (!bytes.subarray(at, at + 512).equals(zeros)) sectors.push(at);
  }
  return sectors;
}

/** Makes the checksums of every GPT header right that still has its signature, so that what it says gets further. */
function repairChecksums(bytes: Buffer, sectors: readonly number[]): void {
  for (const at of sectors) {
    const header = bytes.subarray(at, at + 512);
    if (header.toString('latin1', 0, 8) !== 'EFI PART') continue;
    const sectorBytes = at % 4096 === 0 ? 4096 : 512;
    const start = Number(header.readBigUInt64LE(72)) * sectorBytes;
    const length = header.readUInt32LE(80) * header.readUInt32LE(84);
    if (start + length <= bytes.length) header.writeUInt32LE(crc32(bytes.subarray(start, start + length)), 88);
    header.writeUInt32LE(0, 16);
    header.writeUInt32LE(crc32(bytes.subarray(at, at + Math.min(header.readUInt32LE(12), 4096))), 16);
  }
}

const INTERESTING = [0, 1, 2, 5, 0x0f, 0x7f, 0x80, 0x85, 0xee, 0xff];

test.each(['gpt', 'dos', 'gpt4k', 'dos4k'] as const)(
  'whatever is in a damaged table of %s, partitions lie within the disk',
  (kind) => {
    const sectors = writtenSectors(disks[kind]);
    expect(sectors.length).toBeGreaterThan(3);
    const outcomes = new Set<string>();
    const bytes = Buffer.from(disks[kind]);
    for (let round = 0; round < ROUNDS; round++) {
      const random = new Random(SEED * 100_000 + round);
      for (const at of sectors) disks[kind].copy(bytes, at, at, at + 512);
      // Most tables are at the start; records of 64 bytes are at the end of their sector.
      for (let count = random.length(8); count > 0; count--) {
        const sector = random.pick(sectors);
        const at = sector + (kind.startsWith('dos') ? 440 + random.below(72) : random.below(random.pick([96, 512])));
        bytes[at] = random.chance(0.5) ? random.pick(INTERESTING) : random.below(256);
      }
      if (random.chance(0.8)) repairChecksums(bytes, sectors);
      const storage = new CountingStorage(bytes);
      const table = readPartitionTable(new RawDisk(storage));
      const label = `TABLE_SEED=${SEED}, round ${round}`;
      expect(storage.bytesRead, label).toBeLessThan(MAX_BYTES_READ);
      outcomes.add(JSON.stringify([table?.kind, table?.partitions.length]));
      const numbers = table?.partitions.map(({ number }) => number) ?? [];
      expect(new Set(numbers).size, label).toBe(numbers.length);
      expect(numbers, label).toEqual([...numbers].sort((one, other) => one - other));
      for (const { number, startBytes, sizeBytes } of table?.partitions ?? []) {
        expect(number >= 1 && number <= 255 && startBytes >= 0 && sizeBytes > 0, label).toBe(true);
        expect(Number.isSafeInteger(startBytes) && startBytes + sizeBytes <= DISK_BYTES, label).toBe(true);
      }
    }
    expect(outcomes.size).toBeGreaterThan(4);
  },
);
