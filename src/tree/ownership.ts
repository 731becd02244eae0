/** Whom a tree lets in: nobody who could not read each of the files it is made from. */

import type { Ownership } from './catalogue.ts';

/** What stat(2) says of a file. */
export interface FileOwnership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The first file (the image) gives owner, group and permissions; each further file (the backing chain) can only take
 * permissions away. Where it has another owner or group, the image's owner or group counts as anybody there.
 */
export function commonOwnership(files: readonly FileOwnership[]): Ownership {
  const [image, ...others] = files;
  if (image === undefined) return { permissions: 0, uid: 0, gid: 0 };
  let permissions = image.mode & 0o444;
  for (const { mode, uid, gid } of others) {
    const other = mode & 0o004;
    // Anybody may be in a group that may less than others: its bits count for its members, whatever the others have.
    const anybody = other & (mode >> 3);
    const owner = uid === image.uid ? mode & 0o400 : anybody << 6;
    const group = gid === image.gid ? mode & 0o040 : anybody << 3;
    permissions &= owner | group | (gid === image.gid ? other : anybody);
  }
  return { permissions, uid: image.uid, gid: image.gid };
}

/** What the user says instead; `umask` has the permission bits to take away from all there are. */
export interface OwnershipOverride {
  readonly uid?: number;
  readonly gid?: number;
  readonly umask?: number;
}

/** As other FUSE file systems take `uid=`, `gid=` and `umask=`; nothing is ever writable. */
export function overrideOwnership(
  { permissions, uid, gid }: Ownership,
  { umask, ...ids }: OwnershipOverride,
): Ownership {
  return { permissions: umask === undefined ? permissions : 0o444 & ~umask, uid, gid, ...ids };
}
