/** What a probe finds, and what a prober of one format is. */

import type { ProbeSource } from './probe-source.ts';

export interface FileSystemProbe {
  /** As `blkid -p` names it: `ext4`, `xfs`, `vfat`, `LVM2_member`, `crypto_LUKS`, … */
  readonly type: string;
  /** Trimmed at the end; control characters are kept. */
  readonly label: string | undefined;
  /** As `blkid -p` writes it. */
  readonly uuid: string | undefined;
  /**
   * True if the file system asks for its recovery or check: what is read without it may be older than what was written,
   * or inconsistent. Undefined if that cannot be told, or means nothing for the type.
   */
  readonly isDirty: boolean | undefined;
  /** What the superblock says; may be more than the volume has. */
  readonly sizeBytes: number | undefined;
  /** Of its own sectors, if it can only be mounted on a disk that has such. */
  readonly sectorBytes?: number;
}

/** One format. */
export interface Prober {
  /** Disks below this are not probed for it. */
  readonly minimumBytes?: number;
  /**
   * It holds other volumes (LVM, encryption), and comes before all file systems: those found behind it are leftovers, or
   * belong to what it holds.
   */
  readonly isContainer?: boolean;
  /** What the disk holds, or undefined if it is not of this format. */
  readonly probe: (source: ProbeSource) => FileSystemProbe | undefined;
}
