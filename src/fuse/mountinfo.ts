/**
 * /proc/self/mountinfo (proc(5), Documentation/filesystems/proc.rst, 3.5). Reading it asks no file system anything, so it
 * is the one safe way to look at a mount that may be dead or that this process serves itself.
 *
 *     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *     id parent MAJ:MIN root mountpoint options [optional fields] - type source superblock-options
 */

import fs from 'node:fs';

export interface Mount {
  /** MAJ:MIN, the st_dev of everything in it: never that of another mount while this one lives. */
  readonly device: string;
  readonly mountpoint: string;
  /** `mountpoint` as it stands in the file, with its escapes. */
  readonly escapedMountpoint: string;
  readonly fsType: string;
  readonly source: string;
  /** Of a FUSE mount: the user who mounted it. */
  readonly userId: number | undefined;
}

/** All mounts of this process's mount namespace; of those on one mountpoint the last is the one that is seen. */
export function readMounts(): Mount[] {
  return decodeMountinfo(fs.readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The mount that is seen at `mountpoint`, an absolute path without symlinks. */
export function findMount(mountpoint: string): Mount | undefined {
  return readMounts().findLast((mount) => mount.mountpoint === mountpoint);
}

/** True while `mount` is the one that is seen at its mountpoint. */
export function isMounted(mount: Mount): boolean {
  return findMount(mount.mountpoint)?.device === mount.device;
}

export function decodeMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [, , device, , escapedMountpoint] = fields;
    const [fsType, source, superOptions = ''] = fields.slice(separator + 1);
    const [, userId] = /(?:^|,)user_id=(\d+)/.exec(superOptions) ?? [];
    if (separator < 0 || device === undefined || escapedMountpoint === undefined || fsType === undefined) return [];
    return [
      {
        device,
        mountpoint: unescapeOctal(escapedMountpoint),
        escapedMountpoint,
        fsType: unescapeOctal(fsType),
        source: unescapeOctal(source ?? ''),
        userId: userId === undefined ? undefined : Number(userId),
      },
    ];
  });
}

/** The kernel writes blank, tab, newline, backslash and `#` as a backslash and three octal digits (seq_escape). */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
