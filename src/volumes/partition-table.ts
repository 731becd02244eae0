/** Finds the partition table of a disk: which kind it has, as Linux and libblkid decide it. */

import type { Disk } from '../disk/disk.ts';
import { readGpt } from './gpt.ts';
import { type Recognise, readMbr } from './mbr.ts';
import { type PartitionTable, SECTOR_SIZES } from './partitions.ts';
import { readTable } from './read-table.ts';
import {
  decodeMbrEntries,
  hasBootSignature,
  hasFileSystemParameters,
  haveBootIndicators,
  MBR_BYTES,
  MBR_TYPE_GPT_PROTECTIVE,
  type MbrEntry,
} from './wire/mbr.ts';

const recogniseNothing: Recognise = () => 'nothing';

/**
 * The partition table, or undefined if the disk has none. A GPT counts only where the MBR says so; then the MBR's other
 * entries (hybrid) do not count. Every partition lies within the disk.
 * @param recognise says what a range of the disk holds, a file system or the like; without it, an MBR on a disk with
 *   sectors of 4096 bytes is only told by its logical partitions.
 * @throws Qcow2fsError other than DAMAGED, PAST_END and IO, which cost what they make unreadable.
 */
export function readPartitionTable(disk: Disk, recognise = recogniseNothing): PartitionTable | undefined {
  if (disk.sizeBytes < MBR_BYTES) return undefined;
  const mbr = readTable(disk, 0, MBR_BYTES);
  if (typeof mbr === 'string') return readWithoutMbr(disk, mbr);
  if (!hasBootSignature(mbr)) return undefined;
  const entries = decodeMbrEntries(mbr);
  // msdos_partition of block/partitions/msdos.c takes others for the boot sector of a file system; efi.c does not ask.
  const isTable = haveBootIndicators(entries);
  if (entries.some(({ type }) => type === MBR_TYPE_GPT_PROTECTIVE)) {
    const gpt = readGpt(disk);
    if (isTable || gpt.uuid !== undefined) return gpt;
  }
  if (!isTable) return undefined;
  if (hasFileSystemParameters(mbr) && !arePartitions(disk, entries)) return undefined;
  return readMbr(disk, mbr, recognise);
}

/** Nothing says which kind it was: a valid GPT is proof enough. */
function readWithoutMbr(disk: Disk, reason: string): PartitionTable {
  const problem = `the first sector: ${reason}`;
  const gpt = readGpt(disk);
  if (gpt.uuid !== undefined) return { ...gpt, problems: [problem, ...gpt.problems] };
  return { kind: 'dos', sectorBytes: SECTOR_SIZES[0], uuid: undefined, partitions: [], problems: [problem] };
}

/**
 * True if the entries can only be those of a table, although the sector could also be the boot sector of a file system that
 * fills the disk. There, they are zeros, boot code, or (mkfs.fat --mbr) a partition that has the boot sector in it.
 */
function arePartitions(disk: Disk, entries: readonly MbrEntry[]): boolean {
  const used = entries.filter(({ sectorCount }) => sectorCount !== 0);
  const sectorTotal = Math.floor(disk.sizeBytes / SECTOR_SIZES[0]);
  return (
    used.length > 0 &&
    used.every(({ type, startSector, sectorCount }) => {
      return type !== 0 && startSector > 0 && startSector + sectorCount <= sectorTotal;
    })
  );
}
