/** The logical volumes of LVM2 on the physical volumes of one machine. */

import type { Disk } from '../../disk/disk.ts';
import { attempt } from './attempt.ts';
import type { FoundPhysicalVolume, LvmResult, PhysicalVolume } from './lvm-result.ts';
import { mapLogicalVolumes, mayBelongTo } from './map-logical-volumes.ts';
import { createMetadataTexts, findLabels, readPhysicalVolume } from './read-physical-volume.ts';
import type { VolumeGroup } from './volume-group.ts';

/**
 * True if the disk has a label of LVM2, whether or not it is in order.
 * @throws Qcow2fsError STALE or BUSY; sectors that cannot be read are no label.
 */
export function isLvmMember(disk: Disk): boolean {
  return findLabels(disk).length > 0;
}

/**
 * The logical volumes on `physicalVolumes`. What is damaged or missing costs what is on it, and is told.
 * @throws Qcow2fsError STALE or BUSY.
 */
export function readLvm(physicalVolumes: readonly PhysicalVolume[]): LvmResult {
  const problems: string[] = [];
  const { found, groups } = readAll(physicalVolumes, problems);
  problems.push(...groups.flatMap((group) => group.problems));
  return {
    physicalVolumes: withGroupNames(found, groups),
    logicalVolumes: groups.flatMap((group) => mapLogicalVolumes(group, found)),
    problems,
  };
}

interface AllPhysicalVolumes {
  readonly found: readonly FoundPhysicalVolume[];
  /** The newest state of each group. */
  readonly groups: readonly VolumeGroup[];
}

function readAll(physicalVolumes: readonly PhysicalVolume[], problems: string[]): AllPhysicalVolumes {
  const texts = createMetadataTexts();
  const found: FoundPhysicalVolume[] = [];
  const copies: { readonly name: string; readonly group: VolumeGroup }[] = [];
  const newest = new Map<string, VolumeGroup>();
  for (const { name, disk } of physicalVolumes) {
    const contents = attempt(name, problems, () => readPhysicalVolume(name, disk, texts, problems));
    if (contents === undefined) continue;
    const { uuid, sizeBytes, groups } = contents;
    found.push({ name, uuid, sizeBytes, disk, volumeGroup: undefined, ownGroup: groups[0]?.uuid });
    for (const group of groups) {
      copies.push({ name, group });
      const other = newest.get(group.uuid);
      if (other === undefined || group.seqno > other.seqno) newest.set(group.uuid, group);
    }
  }
  for (const { name, group } of copies) tellIfOutdated(name, group, newest.get(group.uuid), problems);
  return { found, groups: [...newest.values()] };
}

/** After an interrupted change, or when a physical volume was away during one. */
function tellIfOutdated(name: string, copy: VolumeGroup, newest: VolumeGroup | undefined, problems: string[]): void {
  if (newest === undefined || copy === newest) return;
  const relation = copy.seqno === newest.seqno ? 'differs from another copy' : 'is old';
  problems.push(
    `${name}: its metadata of the volume group ${copy.name} ${relation} (seqno ${copy.seqno}, newest ${newest.seqno}) and is not used`,
  );
}

function withGroupNames(
  found: readonly FoundPhysicalVolume[],
  groups: readonly VolumeGroup[],
): readonly FoundPhysicalVolume[] {
  const members = groups.map((group) => ({
    group,
    uuids: new Set([...group.physicalVolumes.values()].map((member) => member.uuid)),
  }));
  return found.map((volume) => {
    const of = members.find(({ group, uuids }) => uuids.has(volume.uuid) && mayBelongTo(volume, group));
    return { ...volume, volumeGroup: of?.group.name };
  });
}
