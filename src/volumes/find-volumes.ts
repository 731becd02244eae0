/** What is on a disk: partitions, logical volumes, or one file system that fills it. */

import type { Disk } from '../disk/disk.ts';
import { WindowDisk } from '../disk/window-disk.ts';
import type { FileSystemProbe } from './file-systems/file-system-probe.ts';
import { probeFileSystem } from './file-systems/probe-file-system.ts';
import { readLvm } from './lvm/lvm.ts';
import type { LogicalVolume } from './lvm/lvm-result.ts';
import type { Recognise } from './mbr.ts';
import { readPartitionTable } from './partition-table.ts';
import type { Partition, PartitionTable } from './partitions.ts';

/** A range of a disk, or several, that is a disk by itself. */
export interface Volume {
  /** `disk`, `p1` or `VG-LV`; as in the image, not as a file name. */
  readonly name: string;
  readonly disk: Disk;
  /** Where it begins on the disk; undefined for a logical volume, which may have several ranges. */
  readonly startBytes: number | undefined;
  readonly partition: Partition | undefined;
  readonly logicalVolume: LogicalVolume | undefined;
  readonly fileSystem: FileSystemProbe | undefined;
}

export interface VolumeList {
  readonly table: PartitionTable | undefined;
  readonly volumes: readonly Volume[];
  /** Logical volumes that cannot be shown. */
  readonly unsupported: readonly LogicalVolume[];
  /** What is wrong, and with what. */
  readonly problems: readonly string[];
}

const LVM_MEMBER = 'LVM2_member';
/** Their boot sector is one that could also be that of an MBR, and libblkid looks for them before it looks for partitions. */
const WITH_BOOT_SECTOR = ['vfat', 'exfat', 'ntfs'];
/** A disc image may have partitions as well: an installer that starts from a disc and from a stick. */
const HYBRID = 'iso9660';

/** A file system that fills its partition leaves at most one such part of it: what is no whole block, or a little more. */
const ROUNDED_OFF_PART = 16;

/** Bounds what is made of a crafted table; LVM2 itself advises against more than some hundred. */
const MAX_VOLUME_COUNT = 4096;

/**
 * Looks at the disk. A file system whose boot sector looks like an MBR comes before a partition table, and partitions come
 * before any other, whose superblock may be left from the time before the disk was partitioned. Damage costs what it makes
 * unreadable, and is told.
 * @throws Qcow2fsError STALE, BUSY: nothing can be told now.
 */
export function findVolumes(disk: Disk): VolumeList {
  const problems: string[] = [];
  const whole = probe(disk, 'disk', problems);
  const table = findTable(disk, whole);
  problems.push(...(table?.problems ?? []));
  const volumes: Volume[] = [];
  if (whole !== undefined && (table === undefined || whole.type === HYBRID)) {
    volumes.push(volumeOf('disk', disk, 0, whole));
  }
  for (const partition of table?.partitions ?? []) {
    // It only holds the logical ones.
    if (partition.isExtended) continue;
    const name = `p${partition.number}`;
    const window = new WindowDisk(disk, partition.startBytes, partition.sizeBytes);
    const fileSystem = probe(window, name, problems);
    volumes.push({ ...volumeOf(name, window, partition.startBytes, fileSystem), partition });
  }
  const unsupported = addLogicalVolumes(volumes, problems);
  if (volumes.length > MAX_VOLUME_COUNT) {
    problems.push(`there are ${volumes.length} volumes: only the first ${MAX_VOLUME_COUNT} are shown`);
  }
  return { table, volumes: volumes.slice(0, MAX_VOLUME_COUNT), unsupported, problems };
}

/** Where the whole disk holds something, a table without partitions is none. */
function findTable(disk: Disk, whole: FileSystemProbe | undefined): PartitionTable | undefined {
  if (whole !== undefined && WITH_BOOT_SECTOR.includes(whole.type)) return undefined;
  const table = readPartitionTable(disk, recogniser(disk));
  return whole !== undefined && table?.partitions.length === 0 ? undefined : table;
}

/** Returns those that cannot be shown. */
function addLogicalVolumes(volumes: Volume[], problems: string[]): LogicalVolume[] {
  const members = volumes.filter(({ fileSystem }) => fileSystem?.type === LVM_MEMBER);
  if (members.length === 0) return [];
  const { logicalVolumes, problems: lvmProblems } = readLvm(members);
  problems.push(...lvmProblems);
  const unsupported: LogicalVolume[] = [];
  for (const logicalVolume of logicalVolumes) {
    const { disk, volumeGroup, name } = logicalVolume;
    if (disk === undefined) {
      unsupported.push(logicalVolume);
      continue;
    }
    const fullName = `${doubleHyphens(volumeGroup)}-${doubleHyphens(name)}`;
    const fileSystem = probe(disk, fullName, problems);
    volumes.push({ ...volumeOf(fullName, disk, undefined, fileSystem), logicalVolume });
  }
  return unsupported;
}

/** As in /dev/mapper, so that the hyphen between group and volume can be told from others. */
function doubleHyphens(name: string): string {
  return name.replaceAll('-', '--');
}

function volumeOf(
  name: string,
  disk: Disk,
  startBytes: number | undefined,
  fileSystem: FileSystemProbe | undefined,
): Volume {
  return { name, disk, startBytes, partition: undefined, logicalVolume: undefined, fileSystem };
}

function probe(disk: Disk, name: string, problems: string[]): FileSystemProbe | undefined {
  return probeFileSystem(disk, ({ message }) => problems.push(`${name}: ${message}`));
}

function recogniser(disk: Disk): Recognise {
  return (startBytes, sizeBytes) => {
    const found = probeFileSystem(new WindowDisk(disk, startBytes, sizeBytes));
    if (found === undefined) return 'nothing';
    if (found.sectorBytes !== undefined && found.sectorBytes !== 4096) return 'something';
    const rest = sizeBytes - (found.sizeBytes ?? 0);
    return rest >= 0 && rest <= sizeBytes / ROUNDED_OFF_PART ? 'filling' : 'something';
  };
}
