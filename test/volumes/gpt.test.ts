import fs from 'node:fs';
import { expect, test } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  changeGpt,
  damageByte,
  encodeRecord,
  expectSameAsTools,
  MIB,
  readByPartx,
  readBytes,
  readByUs,
  runSfdisk,
  runSgdisk,
  tableOf,
  tableTypeByBlkid,
  withDisk,
  withLargeSectors,
  writeBytes,
} from './partitioned-disk.ts';

const DISK_BYTES = 64 * MIB;
const LAST_LBA = DISK_BYTES / 512 - 1;

/** Partitions 1, 2 and 5, not in the order of the disk. */
function makeTable(path: string): void {
  const efi = 'type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, attrs=LegacyBIOSBootable';
  runSfdisk(path, `label: gpt\np5 : start=1M, size=4M, name="é ü"\np1 : start=5M, size=8M, ${efi}\np2 : start=40M\n`);
}

test('numbers are those of the slots, with gaps, and names are UTF-16', async () => {
  await withDisk(DISK_BYTES, (path) => {
    const [efi, last] = ['1:0:+8M', '2:40M:0'];
    runSgdisk(path, '-n', '5:0:+4M', '-c', '5:zé😀 "b"\\', '-n', efi, '-t', '1:ef00', '-A', '1:set:2', '-n', last);
    const table = expectSameAsTools(path);
    expect(table.partitions.map(({ number, name }) => [number, name])).toEqual([
      [1, undefined],
      [2, undefined],
      [5, 'zé😀 "b"\\'],
    ]);
    expect(table.problems).toEqual([]);
  });
});

test('a table may be empty', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSfdisk(path, 'label: gpt\n');
    expect(expectSameAsTools(path)).toMatchObject({ kind: 'gpt', partitions: [], problems: [] });
  });
});

test('a name of 36 units has no NUL at its end', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSgdisk(path, '-n', '1:0:+1M', '-c', `1:${'x'.repeat(35)}y`);
    expect(expectSameAsTools(path).partitions[0]?.name).toBe(`${'x'.repeat(35)}y`);
  });
});

test('a name may begin with U+FEFF, which is no byte order mark there', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSfdisk(path, 'label: gpt\nsize=1M, name="xyz"\n');
    changeGpt(path, (_header, entries) => entries.writeUInt16LE(0xfeff, 56));
    expect(expectSameAsTools(path).partitions[0]?.name).toBe('\ufeffyz');
  });
});

test('a disk of 3 TiB has partitions behind 2 TiB', async () => {
  await withDisk(3 * 2 ** 40, (path) => {
    runSgdisk(path, '-n', '1:0:+2600G', '-n', '2:0:0');
    const table = expectSameAsTools(path);
    expect(table.partitions[1]?.startBytes).toBeGreaterThan(2 * 2 ** 40);
    damageByte(path, 512);
    expect(expectSameAsTools(path).partitions).toEqual(table.partitions);
  });
});

test('sectors may have 4096 bytes, also where only the backup is left', async () => {
  await withDisk(DISK_BYTES, (path) => {
    withLargeSectors(path, (device) => {
      runSfdisk(device, 'label: gpt\nsize=4M\nsize=8M, name="é ü"\n');
      const table = expectSameAsTools(path, device);
      expect(table).toMatchObject({ sectorBytes: 4096, problems: [] });
      expect(table.partitions).toHaveLength(2);
      damageByte(path, 4096);
      expect(expectSameAsTools(path, device).partitions).toEqual(table.partitions);
    });
  });
});

const backupLeft = [
  ['the signature of the primary header', 512, 'sector 1 has no header'],
  ['the checksum of the primary header', 512 + 16, 'the checksum of its header is wrong'],
  ['an entry of the primary', 1024 + 128 * 100, 'the checksum of its entries is wrong'],
] as const;

test.each(backupLeft)('the backup is used when %s is damaged', async (_what, offset, reason) => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    const { partitions, uuid } = tableOf(path);
    damageByte(path, offset);
    const table = expectSameAsTools(path);
    expect(table).toMatchObject({ partitions, uuid });
    expect(table.problems).toEqual([`the primary GPT is not valid (${reason}): its backup is used`]);
  });
});

test('a damaged backup is told, and does no harm', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    const { partitions } = tableOf(path);
    damageByte(path, LAST_LBA * 512);
    expect(expectSameAsTools(path)).toMatchObject({
      partitions,
      problems: [
        `the backup GPT in sector ${LAST_LBA} is not valid (sector ${LAST_LBA} has no header): it is not used`,
      ],
    });
  });
});

test('copies that are both valid but differ are told, and the primary is used', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    changeGpt(path, (_header, entries) => entries.fill(0, 0, 128), { lba: LAST_LBA });
    const table = tableOf(path);
    expect(table.partitions.map(({ number }) => number)).toEqual([1, 2, 5]);
    expect(table.problems).toEqual([
      `the backup GPT in sector ${LAST_LBA} has other partitions than the primary: it is not used`,
    ]);
  });
});

test('with both copies damaged there are no partitions, and both reasons', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    damageByte(path, 520);
    damageByte(path, LAST_LBA * 512 + 20);
    expect(tableTypeByBlkid(path)).toBe('PMBR');
    expect(readByPartx(path)).toEqual([]);
    expect(tableOf(path)).toEqual({
      ...{ kind: 'gpt', sectorBytes: 512, uuid: undefined, partitions: [] },
      problems: [
        'the primary GPT is not valid: the checksum of its header is wrong',
        `the backup GPT in sector ${LAST_LBA} is not valid: the checksum of its header is wrong`,
      ],
    });
  });
});

test('a disk that has grown keeps its table, and its backup where the primary header says', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    const { partitions } = tableOf(path);
    fs.truncateSync(path, 2 * DISK_BYTES);
    expect(expectSameAsTools(path)).toMatchObject({ partitions, problems: [] });
    damageByte(path, 1024);
    expect(tableOf(path)).toMatchObject({ partitions });
  });
});

test('a disk that was cut has no valid table, as for Linux', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    fs.truncateSync(path, DISK_BYTES / 2);
    expect(readByPartx(path)).toEqual([]);
    const table = tableOf(path);
    expect(table.partitions).toEqual([]);
    expect(table.problems[0]).toContain('its LastUsableLBA');
    expect(table.problems[1]).toContain('has no header');
  });
});

/** Field of the header, its bytes, and what is said of it. */
const invalidFields = [
  ['HeaderSize', 12, 4, 91n, 'its HeaderSize is 91'],
  ['HeaderSize', 12, 4, 513n, 'its HeaderSize is 513'],
  ['HeaderSize', 12, 4, 0xffffffffn, 'its HeaderSize is 4294967295'],
  ['MyLBA', 24, 8, 2n, 'its MyLBA is 2'],
  ['FirstUsableLBA', 40, 8, 2n ** 64n - 1n, 'is before its FirstUsableLBA'],
  ['LastUsableLBA', 48, 8, BigInt(LAST_LBA + 1), 'its LastUsableLBA'],
  ['LastUsableLBA', 48, 8, 33n, 'is before its FirstUsableLBA'],
  ['PartitionEntryLBA', 72, 8, 2n ** 63n, 'past the end of the disk'],
  ['PartitionEntryLBA', 72, 8, BigInt(LAST_LBA), 'past the end of the disk'],
  ['NumberOfPartitionEntries', 80, 4, 0n, 'its NumberOfPartitionEntries is 0'],
  ['NumberOfPartitionEntries', 80, 4, 0xffffffffn, 'its NumberOfPartitionEntries is 4294967295'],
  ['SizeOfPartitionEntry', 84, 4, 0n, 'its SizeOfPartitionEntry is 0'],
  ['SizeOfPartitionEntry', 84, 4, 64n, 'its SizeOfPartitionEntry is 64'],
  ['SizeOfPartitionEntry', 84, 4, 129n, 'its SizeOfPartitionEntry is 129'],
  ['SizeOfPartitionEntry', 84, 4, 0x80000000n, 'its SizeOfPartitionEntry is 2147483648'],
] as const;

test.each(invalidFields)(
  'a header with another %s at %i (%i bytes: %i) is not valid',
  async (_field, at, size, value, reason) => {
    await withDisk(DISK_BYTES, (path) => {
      makeTable(path);
      const { partitions } = tableOf(path);
      changeGpt(path, (header) => {
        if (size === 4) header.writeUInt32LE(Number(value), at);
        else header.writeBigUInt64LE(value, at);
      });
      const table = tableOf(path);
      expect(table.partitions).toEqual(partitions);
      expect(table.problems).toHaveLength(1);
      expect(table.problems[0]).toContain(reason);
      expect(readByPartx(path).map(([number]) => number)).toEqual([1, 2, 5]);
    });
  },
);

test('entries may be larger than usual', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    const { partitions } = tableOf(path);
    const wide = Buffer.alloc(64 * 256);
    const usual = readBytes(path, 1024, 64 * 128);
    for (let slot = 0; slot < 64; slot++) usual.copy(wide, slot * 256, slot * 128, (slot + 1) * 128);
    changeGpt(path, (header, entries) => {
      header.writeUInt32LE(64, 80);
      header.writeUInt32LE(256, 84);
      wide.copy(entries);
    });
    expect(tableOf(path).partitions).toEqual(partitions);
  });
});

test('partitions that do not lie within the disk are not shown, but told', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSfdisk(path, `label: gpt\n${'size=1M\n'.repeat(5)}`);
    changeGpt(path, (_header, entries) => {
      entries.writeBigUInt64LE(BigInt(LAST_LBA + 1), 0 * 128 + 40);
      entries.writeBigUInt64LE(2n ** 64n - 1n, 1 * 128 + 32);
      entries.writeBigUInt64LE(10n, 2 * 128 + 40);
      entries.writeBigUInt64LE(BigInt(LAST_LBA), 3 * 128 + 40);
    });
    const { partitions, problems } = tableOf(path);
    expect(partitions.map(({ number, startBytes, sizeBytes }) => [number, startBytes + sizeBytes])).toEqual([
      [4, DISK_BYTES],
      [5, 6 * MIB],
    ]);
    expect(problems.slice(1)).toEqual([
      `partition 1 goes from sector 2048 to ${LAST_LBA + 1}, past the end of the disk, ${LAST_LBA}: not shown`,
      expect.stringContaining('partition 2 goes from sector 18446744073709552000'),
      'partition 3 ends in sector 10, before its start 6144: not shown',
      'partition 5 overlaps partition 4',
    ]);
  });
});

test('Linux has no numbers above 255', async () => {
  await withDisk(DISK_BYTES, (path) => {
    runSgdisk(path, '-S', '512', '-n', '255:0:+1M', '-n', '256:0:+1M', '-n', '512:0:+1M');
    const { partitions, problems } = tableOf(path);
    expect(partitions.map(({ number }) => number)).toEqual([255]);
    expect(problems).toEqual(['2 partitions have numbers above 255, as Linux has none: not shown']);
  });
});

test('the GPT counts on a disk with a hybrid MBR', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    const { partitions } = tableOf(path);
    // The recovery menu, a hybrid MBR of partition 2 as type 0c, in front of the protective entry, and written.
    const answers = ['r', 'h', '2', 'n', '0c', 'y', 'n', 'w', 'y', ''].join('\n');
    runCommand('gdisk', [path], { input: answers });
    expect([readBytes(path, 450, 1)[0], readBytes(path, 466, 1)[0]]).toEqual([0x0c, 0xee]);
    expect(expectSameAsTools(path)).toMatchObject({ kind: 'gpt', partitions });
  });
});

test('a stale GPT behind an MBR without a protective entry does not count', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    writeBytes(path, 0, encodeRecord([[0x83, 2048, 4096]]));
    writeBytes(path, 440, Buffer.from([1, 2, 3, 4]));
    expect(readBytes(path, 512, 8).toString()).toBe('EFI PART');
    expect(expectSameAsTools(path)).toMatchObject({ kind: 'dos', partitions: [{ number: 1 }] });
  });
});

test('a GPT without any MBR does not count', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    writeBytes(path, 0, Buffer.alloc(512));
    expect(tryCommand('sfdisk', ['--json', path]).status).toBe(1);
    expect(tableTypeByBlkid(path)).toBe('');
    expect(readByUs(path)).toBeUndefined();
  });
});

test('a GPT does not need boot indicators that are right, but without it such a sector is no MBR', async () => {
  await withDisk(DISK_BYTES, (path) => {
    makeTable(path);
    writeBytes(path, 446 + 48, Buffer.from([0x7f]));
    expectSameAsTools(path);
    damageByte(path, 512);
    damageByte(path, LAST_LBA * 512);
    expect(readByPartx(path)).toEqual([]);
    expect(readByUs(path)).toBeUndefined();
  });
});
