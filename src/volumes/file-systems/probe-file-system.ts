/** What a disk or a volume holds, told from its superblocks, with the checks and in the order of libblkid. */

import type { Disk } from '../../disk/disk.ts';
import { Qcow2fsError } from '../../errors.ts';
import { btrfs } from './btrfs.ts';
import { bitlocker, luks, lvm2 } from './containers.ts';
import { exfat } from './exfat.ts';
import { ext } from './ext.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import { iso9660 } from './iso9660.ts';
import { ntfs } from './ntfs.ts';
import { ProbeSource } from './probe-source.ts';
import { squashfs } from './squashfs.ts';
import { swap, swsuspend } from './swap.ts';
import { vfat } from './vfat.ts';
import { xfs } from './xfs.ts';
import { zfs } from './zfs.ts';

/** In the order of `idinfos` in libblkid/src/superblocks/superblocks.c. */
const PROBERS: readonly Prober[] = [
  lvm2,
  luks,
  bitlocker,
  vfat,
  swsuspend,
  swap,
  xfs,
  ext,
  iso9660,
  zfs,
  ntfs,
  squashfs,
  btrfs,
  exfat,
];

/** libblkid ignores disks up to this, such as the placeholder of an extended partition. */
const IGNORED_BYTES = 1024;
/** On a disk up to this size (BLKID_FL_TINY_DEV) libblkid takes the first that it finds. */
const TINY_BYTES = 1440 * 1024;

/**
 * What `disk` holds; undefined if that is nothing known, or not one thing.
 *
 * Two file systems on one disk are what a second mkfs leaves of the first. libblkid then says neither (`blkid -p` calls it
 * ambivalent, and mount(8) refuses to choose), and so does this: to name the wrong one is worse than to name none. The
 * exceptions are its exceptions: a container wins over what is behind it, and a tiny disk holds what is found first.
 *
 * `onProblem` is told of places that could not be read (DAMAGED, PAST_END, IO), and of more than one file system (DAMAGED).
 * @throws Qcow2fsError STALE, BUSY and others that are not about a place of the disk.
 */
export function probeFileSystem(
  disk: Disk,
  onProblem: (problem: Qcow2fsError) => void = () => {},
): FileSystemProbe | undefined {
  if (disk.sizeBytes <= IGNORED_BYTES) return undefined;
  const source = new ProbeSource(disk, onProblem);
  const found: FileSystemProbe[] = [];
  for (const prober of PROBERS) {
    if (disk.sizeBytes < (prober.minimumBytes ?? 0)) continue;
    const result = prober.probe(source);
    if (result === undefined) continue;
    if (prober.isContainer || disk.sizeBytes <= TINY_BYTES) return result;
    found.push(result);
  }
  if (found.length < 2) return found[0];
  source.tell(ambivalent(found.map(({ type }) => type)));
  return undefined;
}

function ambivalent(types: readonly string[]): Qcow2fsError {
  return new Qcow2fsError(
    'DAMAGED',
    `there are superblocks of more than one file system (${types.join(', ')}): \`wipefs --no-act\` shows where they are`,
    { data: { types: types.join(',') } },
  );
}
