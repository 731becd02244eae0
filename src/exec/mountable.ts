/** Which file systems the kernel mounts, by the names that probes give them (those of `blkid -p`). */

/** What mount(8) is told about a file system. */
export interface MountType {
  readonly type: string;
  /** Besides those that are for all. */
  readonly options: readonly string[];
}

const plain = (type: string): MountType => ({ type, options: [] });

const MOUNT_TYPES: ReadonlyMap<string, MountType> = new Map([
  ['ext2', plain('ext2')],
  ['ext3', plain('ext3')],
  ['ext4', plain('ext4')],
  ['ext4dev', plain('ext4')],
  // The original may be mounted as well, with the same UUID.
  ['xfs', { type: 'xfs', options: ['nouuid'] }],
  ['btrfs', plain('btrfs')],
  ['vfat', plain('vfat')],
  ['exfat', plain('exfat')],
  ['ntfs', plain('ntfs3')],
  // Nothing can be written to these.
  ['iso9660', { type: 'iso9660', options: ['ro'] }],
  ['squashfs', { type: 'squashfs', options: ['ro'] }],
]);

/** What else a volume may hold. */
const OTHER_CONTENTS: ReadonlyMap<string, string> = new Map([
  ['swap', 'swap space'],
  ['swsuspend', 'swap space with a hibernated machine'],
  ['crypto_LUKS', 'an encrypted volume (LUKS), which is not unlocked here'],
  ['BitLocker', 'an encrypted volume (BitLocker), which is not unlocked here'],
  ['LVM2_member', 'a part of a volume group: name one of its logical volumes'],
  ['zfs_member', 'a part of a ZFS pool'],
  ['jbd', 'the journal of another volume'],
]);

/** undefined for what cannot be mounted. */
export function mountTypeOf(fileSystem: string | undefined): MountType | undefined {
  return fileSystem === undefined ? undefined : MOUNT_TYPES.get(fileSystem);
}

/** What a volume holds that is no file system to mount, as the end of "it holds". */
export function describeContents(fileSystem: string | undefined): string {
  if (fileSystem === undefined) return 'no file system that is known';
  return `${fileSystem}: ${OTHER_CONTENTS.get(fileSystem) ?? 'that cannot be mounted'}`;
}
