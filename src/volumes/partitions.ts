/** What a partition table says, whichever kind it is of. */

/** Logical sector sizes that disks have: the unit of all addresses in a partition table, which does not name it itself. */
export const SECTOR_SIZES = [512, 4096] as const;
export type SectorBytes = (typeof SECTOR_SIZES)[number];

/**
 * The highest number that Linux gives: DISK_MAX_PARTS of include/linux/genhd.h is 256, with the disk as number 0. It also
 * bounds what a crafted table can ask for.
 */
export const MAX_PARTITION_NUMBER = 255;

export interface Partition {
  /** As Linux numbers it: `sda5` has 5. */
  readonly number: number;
  readonly startBytes: number;
  /** All within the disk. */
  readonly sizeBytes: number;
  /** As sfdisk writes it: the type GUID in upper case, or the MBR type in hexadecimal without a zero before it. */
  readonly type: string;
  /** PARTLABEL; MBR partitions have none. */
  readonly name: string | undefined;
  /** PARTUUID, as blkid and /dev/disk/by-partuuid write it. */
  readonly uuid: string | undefined;
  /** The boot flag of an MBR partition, or LegacyBIOSBootable of a GPT partition. */
  readonly isBootable: boolean;
  /** It only contains the logical partitions. Linux shows just its first KiB, as room for a boot loader. */
  readonly isExtended: boolean;
}

export interface PartitionTable {
  readonly kind: 'gpt' | 'dos';
  readonly sectorBytes: SectorBytes;
  /** PTUUID as blkid writes it: the disk GUID, or the disk signature in eight digits. */
  readonly uuid: string | undefined;
  /** By their numbers, which may have gaps. They may overlap each other: `problems` tells. */
  readonly partitions: readonly Partition[];
  /** What is wrong with the table, and what was done about it, in sentences. */
  readonly problems: readonly string[];
}

/** A sentence for each partition that overlaps one that starts before it. */
export function findOverlaps(partitions: readonly Partition[]): string[] {
  const byStart = partitions
    .filter(({ isExtended }) => !isExtended)
    .sort((one, other) => one.startBytes - other.startBytes || one.number - other.number);
  const problems: string[] = [];
  let furthest: Partition | undefined;
  for (const partition of byStart) {
    if (furthest !== undefined && partition.startBytes < endOf(furthest)) {
      problems.push(`partition ${partition.number} overlaps partition ${furthest.number}`);
    }
    if (furthest === undefined || endOf(partition) > endOf(furthest)) furthest = partition;
  }
  return problems;
}

function endOf({ startBytes, sizeBytes }: Partition): number {
  return startBytes + sizeBytes;
}
