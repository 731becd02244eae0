/**
 * Reads the partitions of an MBR, with the numbers that Linux gives them (block/partitions/msdos.c): a primary or extended
 * one has that of its slot, logical ones count from 5 in the order of their chain. Subpartitions of BSD, Solaris, Minix
 * and UnixWare are not looked for.
 */

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
  decodeDiskSignature,
  decodeMbrEntries,
  hasBootSignature,
  haveBootIndicators,
  isExtendedType,
  MBR_BYTES,
  type MbrEntry,
} from './wire/mbr.ts';

const FIRST_LOGICAL_NUMBER = 5;
/** Links that Linux follows without finding a partition (`loopct`). */
const MAX_EMPTY_LINKS = 100;

/**
 * What is recognised in a range of the disk: `filling` is a file system for sectors of 4096
 * bytes that says of itself that it is as large as the range.
 */
export type Recognise = (startBytes: number, sizeBytes: number) => 'nothing' | 'something' | 'filling';

/** What is known of a table while its partitions are collected. */
interface Collection {
  readonly disk: Disk;
  readonly sectorBytes: SectorBytes;
  readonly uuid: string | undefined;
  readonly partitions: Partition[];
  readonly problems: string[];
  nextLogicalNumber: number;
}

/** The table in the first sector. `recognise` helps to tell the sector size, which the table does not have. */
export function readMbr(disk: Disk, mbr: Buffer, recognise: Recognise): PartitionTable {
  const entries = decodeMbrEntries(mbr);
  const signature = decodeDiskSignature(mbr);
  const sectorBytes = findSectorBytes(disk, entries, recognise);
  const problems: string[] = [];
  if (sectorBytes !== SECTOR_SIZES[0]) {
    problems.push(
      `the partition table is taken for one with sectors of ${sectorBytes} bytes: with ${SECTOR_SIZES[0]}, there is nothing where its partitions start`,
    );
  }
  const collection: Collection = {
    disk,
    sectorBytes,
    // libblkid takes 0 for none.
    uuid: signature === 0 ? undefined : signature.toString(16).padStart(8, '0'),
    partitions: [],
    problems,
    nextLogicalNumber: FIRST_LOGICAL_NUMBER,
  };
  entries.forEach((entry, slot) => {
    if (entry.sectorCount === 0) return;
    add(collection, slot + 1, entry.startSector, entry);
    if (isExtendedType(entry.type)) addLogical(collection, slot + 1, entry);
  });
  const { uuid } = collection;
  const partitions = collection.partitions.sort((one, other) => one.number - other.number);
  return { kind: 'dos', sectorBytes, uuid, partitions, problems: [...problems, ...findOverlaps(partitions)] };
}

/**
 * Sectors have 512 bytes, as Linux has it for the disks of virtual machines, unless there is proof for another size: nothing is
 * where partitions start with 512, all of them lie within the disk with the other size, and one has the record of an
 * extended partition there, or a file system of its own size. What an earlier partition has left is at such a place by chance
 * only, and as large as it was.
 */
function findSectorBytes(disk: Disk, entries: readonly MbrEntry[], recognise: Recognise): SectorBytes {
  const [usual, ...others] = SECTOR_SIZES;
  const used = entries.filter(({ sectorCount }) => sectorCount !== 0);
  const find = (entry: MbrEntry, sectorBytes: SectorBytes) => findAtStart(disk, entry, sectorBytes, recognise);
  if (used.some((entry) => find(entry, usual) !== 'nothing')) return usual;
  const isProven = (sectorBytes: SectorBytes) =>
    used.every(({ startSector, sectorCount }) => (startSector + sectorCount) * sectorBytes <= disk.sizeBytes) &&
    used.some((entry) => find(entry, sectorBytes) === 'filling');
  return others.find(isProven) ?? usual;
}

function findAtStart(
  disk: Disk,
  { type, startSector, sectorCount }: MbrEntry,
  sectorBytes: SectorBytes,
  recognise: Recognise,
): ReturnType<Recognise> {
  const start = startSector * sectorBytes;
  // Nothing is told by a partition that starts at the table itself.
  if (start === 0 || start >= disk.sizeBytes) return 'nothing';
  if (!isExtendedType(type)) return recognise(start, Math.min(sectorCount * sectorBytes, disk.sizeBytes - start));
  const record = readTable(disk, start, MBR_BYTES);
  if (typeof record === 'string' || !hasBootSignature(record)) return 'nothing';
  return haveBootIndicators(decodeMbrEntries(record)) ? 'filling' : 'something';
}

/** Follows the chain of an extended partition, as parse_extended does. */
function addLogical(collection: Collection, extendedNumber: number, extended: MbrEntry): void {
  const { disk, sectorBytes, problems } = collection;
  const say = (sector: number, what: string) =>
    problems.push(`the extended boot record in sector ${sector}, in partition ${extendedNumber}: ${what}`);
  const seen = new Set<number>();
  let sector = extended.startSector;
  let sectorCount = extended.sectorCount;
  let emptyLinks = 0;
  while (emptyLinks < MAX_EMPTY_LINKS) {
    if (seen.has(sector)) return void say(sector, 'the chain of logical partitions comes back to it: it ends there');
    seen.add(sector);
    const record = readTable(disk, sector * sectorBytes, MBR_BYTES);
    if (typeof record === 'string') return void say(sector, record);
    if (!hasBootSignature(record)) return void say(sector, 'it has no signature 55 aa');

    emptyLinks += 1;
    const entries = decodeMbrEntries(record);
    for (const [slot, entry] of entries.entries()) {
      if (entry.sectorCount === 0 || isExtendedType(entry.type)) continue;
      const start = sector + entry.startSector;
      if (slot >= 2 && !isWithin(entry, start, sectorCount, extended)) continue;
      if (collection.nextLogicalNumber > MAX_PARTITION_NUMBER) {
        return void say(sector, `Linux has no partition numbers above ${MAX_PARTITION_NUMBER}: the rest is not shown`);
      }
      add(collection, collection.nextLogicalNumber, start, entry);
      collection.nextLogicalNumber += 1;
      emptyLinks = 0;
    }
    const link = entries.find((entry) => entry.sectorCount !== 0 && isExtendedType(entry.type));
    if (link === undefined) return;
    sector = extended.startSector + link.startSector;
    sectorCount = link.sectorCount;
  }
  say(sector, `the ${MAX_EMPTY_LINKS} records before it have no partition: it is not read`);
}

/** The third and fourth entry "sometimes contain random garbage", says msdos.c, and has these checks. */
function isWithin(entry: MbrEntry, start: number, recordSectorCount: number, extended: MbrEntry): boolean {
  return (
    entry.startSector + entry.sectorCount <= recordSectorCount &&
    start >= extended.startSector &&
    start + entry.sectorCount <= extended.startSector + extended.sectorCount
  );
}

/** Linux leaves out what starts past the end of the disk, and cuts what ends there (blk_add_partition of block/partitions/core.c). */
function add(collection: Collection, number: number, startSector: number, entry: MbrEntry): void {
  const { disk, sectorBytes, uuid, partitions, problems } = collection;
  const startBytes = startSector * sectorBytes;
  const sizeBytes = entry.sectorCount * sectorBytes;
  if (startBytes >= disk.sizeBytes) {
    problems.push(`partition ${number} starts at byte ${startBytes}, past the end of the disk: not shown`);
    return;
  }
  if (sizeBytes > disk.sizeBytes - startBytes) {
    problems.push(`partition ${number} ends at byte ${startBytes + sizeBytes}, past the end of the disk: cut there`);
  }
  partitions.push({
    number,
    startBytes,
    sizeBytes: Math.min(sizeBytes, disk.sizeBytes - startBytes),
    type: entry.type.toString(16),
    name: undefined,
    uuid: uuid === undefined ? undefined : `${uuid}-${number.toString(16).padStart(2, '0')}`,
    isBootable: entry.bootIndicator === 0x80,
    isExtended: isExtendedType(entry.type),
  });
}
