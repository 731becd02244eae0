/** What reading LVM takes and gives. */

import type { Disk } from '../../disk/disk.ts';

/** Where a physical volume may be: a whole partition or disk. */
export interface PhysicalVolume {
  /** For messages. */
  readonly name: string;
  readonly disk: Disk;
}

export interface FoundPhysicalVolume {
  readonly name: string;
  readonly uuid: string;
  /** Undefined if it is in no group, or if its group does not know it. */
  readonly volumeGroup: string | undefined;
  /** As its label has it: the disk may have changed since. */
  readonly sizeBytes: number;
  readonly disk: Disk;
  /** UUID of the group that its own metadata is about; undefined if it has none. */
  readonly ownGroup: string | undefined;
}

export interface LogicalVolume {
  readonly volumeGroup: string;
  readonly name: string;
  readonly uuid: string;
  readonly sizeBytes: number;
  /** Undefined if it is not supported. */
  readonly disk: Disk | undefined;
  /** Why it is not supported. */
  readonly unsupported: string | undefined;
}

export interface LvmResult {
  readonly physicalVolumes: readonly FoundPhysicalVolume[];
  /** Those that LVM shows (VISIBLE), not the parts that others are made of. */
  readonly logicalVolumes: readonly LogicalVolume[];
  readonly problems: readonly string[];
}
