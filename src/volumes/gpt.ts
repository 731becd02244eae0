/**
 * Reads a GPT: the primary copy, or else the backup. What is valid is what Linux takes for valid (is_gpt_valid of
 * block/partitions/efi.c); that the backup is used without being asked for is as in libblkid (partitions/gpt.c).
 */

import { crc32 } from '../common/crc32.ts';
import type { Disk } from '../disk/disk.ts';
import {
  findOverlaps,
  MAX_PARTITION_NUMBER,
  type Partition,
  type PartitionTable,
  SECTOR_SIZES,
  type SectorBytes,
} from './partitions.ts';
import { readTable } from './read-table.ts';
import {
  decodeGptEntry,
  decodeGptHeader,
  GPT_ENTRY_BYTES,
  GPT_HEADER_BYTES,
  type GptEntry,
  type GptHeader,
  HEADER_CRC32_OFFSET,
} from './wire/gpt.ts';

const PRIMARY_LBA = 1;
/** KMALLOC_MAX_SIZE on x86-64, which block/partitions/efi.c has as its limit: 32,768 entries of the usual size. */
const MAX_ENTRY_ARRAY_BYTES = 4 * 1024 * 1024;

/** One of the two copies of a table, as far as it is valid. */
interface Copy {
  readonly sectorBytes: SectorBytes;
  readonly lba: number;
  /** There is something that calls itself a header. */
  readonly hasSignature: boolean;
  /** A header that is valid, and its entries, unless they are not. */
  readonly header?: GptHeader;
  readonly entries?: Buffer;
  /** Why the copy is not valid; empty if it is. */
  readonly reason: string;
}

interface ValidCopy extends Copy {
  readonly header: GptHeader;
  readonly entries: Buffer;
}

/** The table of a disk whose MBR says that it has a GPT. Without partitions if neither copy is valid: `problems` tells why. */
export function readGpt(disk: Disk): PartitionTable {
  const primaries = SECTOR_SIZES.map((sectorBytes) => readCopy(disk, sectorBytes, PRIMARY_LBA));
  const primary = primaries.find(isValid);
  if (primary !== undefined) return toTable(disk, primary, checkBackup(disk, primary));

  const backups = primaries.flatMap((copy) => readBackups(disk, copy));
  const backup = backups.find(isValid);
  if (backup !== undefined) {
    const { reason } = primaries.find(({ sectorBytes }) => sectorBytes === backup.sectorBytes) as Copy;
    return toTable(disk, backup, [`the primary GPT is not valid (${reason}): its backup is used`]);
  }
  const shown = primaries.find(({ hasSignature }) => hasSignature) ?? (primaries[0] as Copy);
  const ofSameSize = backups.filter(({ sectorBytes }) => sectorBytes === shown.sectorBytes);
  const problems = [
    `the primary GPT is not valid: ${shown.reason}`,
    ...ofSameSize.map(({ lba, reason }) => `the backup GPT in sector ${lba} is not valid: ${reason}`),
  ];
  return { kind: 'gpt', sectorBytes: shown.sectorBytes, uuid: undefined, partitions: [], problems };
}

function isValid(copy: Copy): copy is ValidCopy {
  return copy.entries !== undefined;
}

/** The backup is in the last sector; on a disk that has grown since, it is where a header that is left of the primary says. */
function readBackups(disk: Disk, primary: Copy): Copy[] {
  const lbas = [lastLbaOf(disk, primary.sectorBytes), primary.header?.alternateLba];
  return [...new Set(lbas)].flatMap((lba) =>
    lba === undefined || lba <= PRIMARY_LBA ? [] : [readCopy(disk, primary.sectorBytes, lba)],
  );
}

function checkBackup(disk: Disk, primary: ValidCopy): string[] {
  const { alternateLba } = primary.header;
  const backup = readCopy(disk, primary.sectorBytes, alternateLba);
  if (!isValid(backup))
    return [`the backup GPT in sector ${alternateLba} is not valid (${backup.reason}): it is not used`];
  if (backup.entries.equals(primary.entries)) return [];
  return [`the backup GPT in sector ${alternateLba} has other partitions than the primary: it is not used`];
}

function readCopy(disk: Disk, sectorBytes: SectorBytes, lba: number): Copy {
  const place = { sectorBytes, lba, hasSignature: false };
  const bytes = readTable(disk, lba * sectorBytes, sectorBytes);
  if (typeof bytes === 'string') return { ...place, reason: `its header in sector ${lba}: ${bytes}` };
  const header = decodeGptHeader(bytes);
  if (header === undefined) return { ...place, reason: `sector ${lba} has no header` };

  const marked = { ...place, hasSignature: true };
  const reason = checkHeader(disk, marked, header, bytes);
  if (reason !== undefined) return { ...marked, reason };
  const entries = readEntries(disk, sectorBytes, header);
  return typeof entries === 'string'
    ? { ...marked, header, reason: entries }
    : { ...marked, header, entries, reason: '' };
}

/** What is wrong with a header, in the order of the checks of is_gpt_valid; undefined if nothing is. */
function checkHeader(
  disk: Disk,
  { sectorBytes, lba }: Pick<Copy, 'sectorBytes' | 'lba'>,
  header: GptHeader,
  bytes: Buffer,
) {
  const lastLba = lastLbaOf(disk, sectorBytes);
  const { headerSize, firstUsableLba, lastUsableLba, entryBytes, entryCount } = header;
  if (headerSize < GPT_HEADER_BYTES || headerSize > sectorBytes) return `its HeaderSize is ${headerSize}`;
  const checked = Buffer.from(bytes.subarray(0, headerSize));
  checked.writeUInt32LE(0, HEADER_CRC32_OFFSET);
  if (checksum(checked) !== header.headerCrc32) return 'the checksum of its header is wrong';
  if (header.myLba !== lba) return `its MyLBA is ${header.myLba}, but it is in sector ${lba}`;
  if (lastUsableLba > lastLba) return `its LastUsableLBA ${lastUsableLba} is past the end of the disk, ${lastLba}`;
  if (lastUsableLba < firstUsableLba) return `its LastUsableLBA ${lastUsableLba} is before its FirstUsableLBA`;
  // 128 times a power of two; Linux only knows 128.
  const isEntrySize = entryBytes >= GPT_ENTRY_BYTES && entryBytes <= 4096 && (entryBytes & (entryBytes - 1)) === 0;
  if (!isEntrySize) return `its SizeOfPartitionEntry is ${entryBytes}`;
  if (entryCount === 0 || entryCount * entryBytes > MAX_ENTRY_ARRAY_BYTES) {
    return `its NumberOfPartitionEntries is ${entryCount}`;
  }
  return undefined;
}

function readEntries(disk: Disk, sectorBytes: number, header: GptHeader): Buffer | string {
  const entries = readTable(disk, header.partitionEntryLba * sectorBytes, header.entryCount * header.entryBytes);
  if (typeof entries === 'string') return `its entries in sector ${header.partitionEntryLba}: ${entries}`;
  return checksum(entries) === header.entryArrayCrc32 ? entries : 'the checksum of its entries is wrong';
}

function toTable(
  disk: Disk,
  { sectorBytes, header, entries }: ValidCopy,
  copyProblems: readonly string[],
): PartitionTable {
  const partitions: Partition[] = [];
  const problems = [...copyProblems];
  const slotCount = Math.min(header.entryCount, MAX_PARTITION_NUMBER);
  for (let slot = 0; slot < slotCount; slot++) {
    const entry = decodeGptEntry(entries, slot * header.entryBytes);
    if (entry === undefined) continue;
    const problem = checkEntry(entry, lastLbaOf(disk, sectorBytes));
    if (problem === undefined) partitions.push(toPartition(entry, slot + 1, sectorBytes));
    else problems.push(`partition ${slot + 1} ${problem}`);
  }
  const left = countUsed(entries, header, slotCount);
  if (left > 0)
    problems.push(`${left} partitions have numbers above ${MAX_PARTITION_NUMBER}, as Linux has none: not shown`);
  problems.push(...findOverlaps(partitions));
  return { kind: 'gpt', sectorBytes, uuid: header.diskGuid, partitions, problems };
}

/** is_pte_valid of block/partitions/efi.c; it does not ask for the usable range. */
function checkEntry({ startingLba, endingLba }: GptEntry, lastLba: number): string | undefined {
  if (startingLba > lastLba || endingLba > lastLba) {
    return `goes from sector ${startingLba} to ${endingLba}, past the end of the disk, ${lastLba}: not shown`;
  }
  return endingLba < startingLba
    ? `ends in sector ${endingLba}, before its start ${startingLba}: not shown`
    : undefined;
}

function toPartition(entry: GptEntry, number: number, sectorBytes: number): Partition {
  return {
    number,
    startBytes: entry.startingLba * sectorBytes,
    sizeBytes: (entry.endingLba - entry.startingLba + 1) * sectorBytes,
    type: entry.typeGuid,
    name: entry.name === '' ? undefined : entry.name,
    uuid: entry.uniqueGuid,
    isBootable: entry.isLegacyBootable,
    isExtended: false,
  };
}

function countUsed(entries: Buffer, header: GptHeader, fromSlot: number): number {
  let count = 0;
  for (let slot = fromSlot; slot < header.entryCount; slot++) {
    if (decodeGptEntry(entries, slot * header.entryBytes) !== undefined) count += 1;
  }
  return count;
}

function lastLbaOf(disk: Disk, sectorBytes: number): number {
  return Math.floor(disk.sizeBytes / sectorBytes) - 1;
}

/** As the EFI specification has it: the CRC-32 of zip, inverted at its end. */
function checksum(bytes: Buffer): number {
  return ~crc32(bytes) >>> 0;
}
