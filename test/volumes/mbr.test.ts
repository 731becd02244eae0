import { expect, test } from 'vitest';
import { RawDisk } from '../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { readPartitionTable } from '../../src/volumes/partition-table.ts';
import { runCommand } from '../support/run-command.ts';
import {
  encodeRecord,
  expectSameAsTools,
  MIB,
  readByPartx,
  readBytes,
  readByUs,
  runSfdisk,
  tableOf,
  tableTypeByBlkid,
  withDisk,
  withLargeSectors,
  writeBytes,
} from './partitioned-disk.ts';

const DISK_BYTES = 128 * MIB;
const SECTOR_COUNT = DISK_BYTES / 512;
const SIGNATURE = Buffer.from([0x0b, 0x0a, 0x00, 0x0c]);

type Records = Parameters<typeof encodeRecord>[0];

/** An MBR with a signature; tools show no PARTUUID without one. */
function writeMbr(path: string, entries: Records): void {
  writeRecord(path, 0, entries);
  writeBytes(path, 440, SIGNATURE);
}

function writeRecord(path: string, sector: number, entries: Records): void {
  writeBytes(path, sector * 512, encodeRecord(entries));
}

/** Number, start and size in sectors. */
function sectorsOf(path: string): number[][] {
  return tableOf(path).partitions.map(({ number, startBytes, sizeBytes }) => [
    number,
    startBytes / 512,
    sizeBytes / 512,
  ]);
}

function expectSameAsPartx(path: string): void {
  const ours = tableOf(path).partitions.map((partition) => {
    const { number, startBytes, sizeBytes, uuid } = partition;
    return [number, startBytes, sizeBytes, uuid];
  });
  expect(ours).toEqual(readByPartx(path));
}

test('primary, extended and logical partitions have the numbers and types that the tools give', async () => {
  await withDisk(DISK_BYTES, (path) => {
    const script = [
      ...['label: dos', 'label-id: 0x00c0ffee', 'p1 : size=4M, type=83, bootable', 'p4 : size=8M, type=7'],
      ...['p3 : size=64M, type=f', 'p5 : size=1M, type=82', 'p6 : size=2M, type=8e', 'p7 : size=3M, type=c'],
    ];
    runSfdisk(path, `${script.join('\n')}\n`);
    const table = expectSameAsTools(path);
    expect(table).toMatchObject({ kind: 'dos', uuid: '00c0ffee', problems: [] });
    expect(table.partitions.map(({ number, isExtended }) => [number, isExtended])).toEqual([
      ...[
        [1, false],
        [3, true],
        [4, false],
        [5, false],
        [6, false],
        [7, false],
      ],
    ]);
    expect(table.partitions.at(-1)?.uuid).toBe('00c0ffee-07');
  });
});

test('a table may be empty', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSfdisk(path, 'label: dos\n');
    expect(expectSameAsTools(path)).toMatchObject({ kind: 'dos', partitions: [], problems: [] });
  });
});

test('types that mean nothing to Linux are partitions all the same', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [
      [0xa5, 2048, 2048],
      [0x00, 4096, 2048],
      [0xbf, 6144, 2048],
      [0x81, 8192, 2048],
    ]);
    expect(expectSameAsTools(path).partitions.map(({ type }) => type)).toEqual(['a5', '0', 'bf', '81']);
  });
});

test('without a disk signature, there are no UUIDs', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeRecord(path, 0, [[0x83, 2048, 2048]]);
    const { uuid, partitions } = tableOf(path);
    expect([uuid, partitions[0]?.uuid]).toEqual([undefined, undefined]);
    expect(tableTypeByBlkid(path)).toBe('dos');
  });
});

/** A chain of logical partitions of one sector each, with the record of each right before it. */
function writeChain(path: string, count: number, start = 2048): void {
  writeMbr(path, [[0x05, start, count * 2]]);
  for (let index = 0; index < count; index++) {
    const link = index + 1 < count ? [[0x05, (index + 1) * 2, 2] as const] : [];
    writeRecord(path, start + index * 2, [[0x83, 1, 1], ...link]);
  }
}

test.each([56, 60, 200, 251])('%i logical partitions are all found', async (count) => {
  await withDisk(DISK_BYTES, (path) => {
    writeChain(path, count);
    expect(tableOf(path).partitions.at(-1)?.number).toBe(4 + count);
    expect(tableOf(path).problems).toEqual([]);
    expectSameAsPartx(path);
    // Above, sfdisk stops: it knows 60 partitions.
    if (count === 56) expectSameAsTools(path);
  });
});

test('Linux has no numbers above 255', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeChain(path, 300);
    expect(tableOf(path).partitions.at(-1)?.number).toBe(255);
    expect(tableOf(path).problems).toEqual([expect.stringContaining('no partition numbers above 255')]);
  });
});

test('a chain may have records without partitions, but Linux follows no more than 100 of them', async () => {
  for (const [emptyCount, isFound] of [
    [99, true],
    [100, false],
  ] as const) {
    await withDisk(DISK_BYTES, (path) => {
      writeMbr(path, [[0x05, 2048, 1000]]);
      for (let index = 0; index < emptyCount; index++) {
        writeRecord(path, 2048 + index, [[0x05, index + 1, 1]]);
      }
      writeRecord(path, 2048 + emptyCount, [[0x83, 1, 1]]);
      expectSameAsPartx(path);
      expect(sectorsOf(path)).toEqual([[1, 2048, 1000], ...(isFound ? [[5, 2049 + emptyCount, 1]] : [])]);
      expect(tableOf(path).problems).toHaveLength(isFound ? 0 : 1);
    });
  }
});

test('a chain that comes back to one of its records ends there', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [[0x05, 2048, 1000]]);
    writeRecord(path, 2048, [
      [0x83, 1, 1],
      [0x05, 10, 10],
    ]);
    writeRecord(path, 2058, [
      [0x83, 1, 1],
      [0x05, 0, 10],
    ]);
    expect(sectorsOf(path)).toEqual([
      [1, 2048, 1000],
      [5, 2049, 1],
      [6, 2059, 1],
    ]);
    expect(tableOf(path).problems).toEqual([
      'the extended boot record in sector 2048, in partition 1: the chain of logical partitions comes back to it: it ends there',
    ]);
  });
});

test('a record past the end of the disk, or without its signature, ends the chain and is told', async () => {
  const records = [
    [0xfffffff0, undefined, 'it lies past the end of the disk'],
    [SECTOR_COUNT - 2048, undefined, 'it lies past the end of the disk'],
    [10, Buffer.alloc(512), 'it has no signature 55 aa'],
  ] as const;
  for (const [link, record, reason] of records) {
    await withDisk(DISK_BYTES, (path) => {
      writeMbr(path, [
        [0x83, 100, 100],
        [0x0f, 2048, 1000],
      ]);
      writeRecord(path, 2048, [
        [0x83, 1, 1],
        [0x85, link, 10],
      ]);
      if (record !== undefined) writeBytes(path, (2048 + link) * 512, record);
      expectSameAsPartx(path);
      expect(tableOf(path).problems).toEqual([
        `the extended boot record in sector ${2048 + link}, in partition 2: ${reason}`,
      ]);
    });
  }
});

test('the third and fourth entry of a record only count within their bounds', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [[0x05, 2048, 1000]]);
    writeRecord(path, 2048, [
      [0x83, 1, 1],
      [0x05, 100, 100],
      [0x83, 50, 10],
      [0x83, 900, 101],
    ]);
    writeRecord(path, 2148, [
      [0x05, 200, 100],
      [0x83, 1, 1],
      [0x83, 90, 11],
      [0x83, 90, 10],
    ]);
    writeRecord(path, 2248, [[0x83, 7, 1]]);
    expectSameAsPartx(path);
    expect(sectorsOf(path).map(([number, start]) => [number, start])).toEqual([
      ...[
        [1, 2048],
        [5, 2049],
        [6, 2098],
        [7, 2149],
        [8, 2238],
        [9, 2255],
      ],
    ]);
  });
});

test('two extended partitions both have their logical ones', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [
      [0x05, 4096, 100],
      [0x83, 8192, 100],
      [0x0f, 2048, 100],
    ]);
    writeRecord(path, 4096, [[0x83, 1, 1]]);
    writeRecord(path, 2048, [[0x83, 2, 2]]);
    expectSameAsPartx(path);
    expect(sectorsOf(path).at(-1)).toEqual([6, 2050, 2]);
  });
});

test('what ends past the end of the disk is cut there, what starts there is not shown: as Linux does', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [
      ...([
        [0x83, 2048, 0xffffffff],
        [0x83, SECTOR_COUNT, 1],
        [0x83, SECTOR_COUNT - 1, 1],
      ] as const),
      [0x05, 4096, 100],
    ]);
    writeRecord(path, 4096, [
      [0x83, 0xfffffff0, 8],
      [0x05, 10, 10],
    ]);
    writeRecord(path, 4106, [[0x83, 1, 1]]);
    expect(sectorsOf(path)).toEqual([
      [1, 2048, SECTOR_COUNT - 2048],
      [3, SECTOR_COUNT - 1, 1],
      ...[
        [4, 4096, 100],
        [6, 4107, 1],
      ],
    ]);
    expect(tableOf(path).problems).toEqual([
      expect.stringMatching(/^partition 1 ends at byte \d+, past the end of the disk: cut there$/),
      `partition 2 starts at byte ${DISK_BYTES}, past the end of the disk: not shown`,
      expect.stringMatching(/^partition 5 starts at byte \d+, past the end of the disk: not shown$/),
      'partition 6 overlaps partition 1',
      'partition 3 overlaps partition 1',
    ]);
  });
});

const bootSectors = [
  ['FAT', 'mkfs.fat', ['-F', '32']],
  ['FAT with an MBR that only describes itself', 'mkfs.fat', ['-F', '16', '--mbr=yes']],
  ['NTFS', 'mkfs.ntfs', ['-q', '-F', '-f']],
] as const;

test.each(bootSectors)('the boot sector of %s is no MBR', async (_name, command, args) => {
  await withDisk(DISK_BYTES, (path) => {
    runCommand(command, [...args, path]);
    expect(readBytes(path, 510, 2).toString('hex')).toBe('55aa');
    expect(tableTypeByBlkid(path)).toBe('');
    expect(readByUs(path)).toBeUndefined();
  });
});

test('a sector with another boot indicator is no MBR', async () => {
  await withDisk(DISK_BYTES, (path) => {
    writeMbr(path, [[0x83, 2048, 2048]]);
    writeBytes(path, 446 + 48, Buffer.from([0x7f]));
    expect(tableTypeByBlkid(path)).toBe('');
    expect(readByUs(path)).toBeUndefined();
  });
});

test('an MBR stays one when its boot code looks like the parameters of a FAT', async () => {
  await withDisk(DISK_BYTES, (path) => {
    const fat = `${path}.fat`;
    runCommand('mkfs.fat', ['-C', '-F', '16', fat, '32768']);
    writeBytes(path, 0, readBytes(fat, 0, 440));
    runSfdisk(path, 'label: dos\nsize=4M\nsize=8M, type=c\n', ['--wipe', 'never']);
    expect(readBytes(path, 0, 62)).toEqual(readBytes(fat, 0, 62));
    expect(sectorsOf(path)).toEqual([
      [1, 2048, 8192],
      [2, 10240, 16384],
    ]);
  });
});

test('sectors of 4096 bytes are told by the logical partitions, or by what is recognised', async () => {
  await withDisk(DISK_BYTES, (path) => {
    withLargeSectors(path, (device) => {
      runSfdisk(device, 'label: dos\nsize=4M\nsize=64M, type=5\nsize=8M\nsize=2M\nsize=3M\nsize=4M\n');
      const { partitions, sectorBytes } = expectSameAsTools(path, device);
      expect([partitions.length, sectorBytes]).toEqual([6, 4096]);

      runSfdisk(device, 'label: dos\nsize=4M\nsize=8M\n', ['--wipe', 'always']);
      const bytes = readBytes(path, 0, DISK_BYTES);
      const starts: number[] = [];
      const table = readPartitionTable(new RawDisk(new BufferStorage(bytes)), (startBytes) => {
        starts.push(startBytes);
        return startBytes === MIB ? 'filling' : 'nothing';
      });
      expect(table?.partitions.map(({ startBytes, sizeBytes }) => [startBytes, sizeBytes])).toEqual(
        readByPartx(device).map(([, start, size]) => [start, size]),
      );
      expect(starts).toContain(MIB / 8);
    });
  });
});

/** A partition of 4096 sectors at sector 2048 of a disk of 64 MiB: the same with large sectors is 16 MiB at 8 MiB. */
function bytesWith(...entries: [type: number, startSector: number, sectorCount: number][]): RawDisk {
  const bytes = Buffer.alloc(64 * MIB);
  encodeRecord([[0x83, 2048, 4096], ...entries]).copy(bytes);
  return new RawDisk(new BufferStorage(bytes));
}

test.each([
  ['nothing', 512],
  ['something', 512],
  ['filling', 4096],
] as const)(
  'what is left of earlier partitions does not tell the size of sectors: %s is there',
  (found, sectorBytes) => {
    const table = readPartitionTable(bytesWith(), (startBytes) => (startBytes === 8 * MIB ? found : 'nothing'));
    expect(table?.sectorBytes).toBe(sectorBytes);
    expect(table?.problems).toEqual(sectorBytes === 512 ? [] : [expect.stringContaining('sectors of 4096 bytes')]);
  },
);

test('sectors have 512 bytes if anything is where a partition starts then, and if one would lie outside of the disk else', () => {
  const everywhere = readPartitionTable(bytesWith(), (startBytes) => (startBytes === MIB ? 'something' : 'filling'));
  expect(everywhere?.sectorBytes).toBe(512);
  const outside = readPartitionTable(bytesWith([0x83, 8192, 10_000]), (startBytes) =>
    startBytes === 8 * MIB ? 'filling' : 'nothing',
  );
  expect(outside?.sectorBytes).toBe(512);
});

test('what starts at the table itself tells nothing about sectors', () => {
  const starts: number[] = [];
  const bytes = Buffer.alloc(MIB);
  encodeRecord([
    [0x83, 0, 100],
    [0x83, 64, 8],
  ]).copy(bytes);
  readPartitionTable(new RawDisk(new BufferStorage(bytes)), (startBytes) => {
    starts.push(startBytes);
    return 'nothing';
  });
  expect(starts).toEqual([64 * 512, 64 * 4096]);
});

test('a disk without a boot signature, or too small for one, has no table', () => {
  expect(readPartitionTable(new RawDisk(new BufferStorage(Buffer.alloc(MIB))))).toBeUndefined();
  expect(readPartitionTable(new RawDisk(new BufferStorage(Buffer.alloc(0))))).toBeUndefined();
});
