/**
 * The logical volumes of a group as disks, or the reasons why they cannot be.
 *
 * The origin of a classic snapshot is what its own segments hold: the target snapshot-origin of device-mapper copies the
 * old bytes away to the snapshot before it writes the new ones in place (dm-snap.c in Linux). Not while a snapshot is merged
 * back: then what has not been copied yet is read from the snapshot.
 */

import { MappedDisk, type Segment } from '../mapped-disk.ts';
import type { FoundPhysicalVolume, LogicalVolume } from './lvm-result.ts';
import { quote } from './quote.ts';
import type { ClassicSnapshot, GroupMember, GroupSegment, GroupVolume, VolumeGroup } from './volume-group.ts';

/** Flags of a volume that have no part in which bytes it has (lib/format_text/flags.c of lvm2). */
const HARMLESS_STATUS = ['READ', 'WRITE', 'VISIBLE', 'FIXED_MINOR', 'LOCKED'];
/** A hostile volume may have a reason for each of its segments. */
const MAX_REASONS = 3;

/** Where the extents of a member of the group are. */
interface MemberPlace {
  readonly member: GroupMember;
  readonly found: FoundPhysicalVolume;
}

interface GroupContext {
  readonly extentBytes: number;
  /** By the names that segments have for physical volumes; a string is the reason why one cannot be read. */
  readonly places: ReadonlyMap<string, MemberPlace | string>;
  readonly logicalNames: ReadonlySet<string>;
  /** What ties a snapshot to its origin, by the name of the snapshot. */
  readonly tiesByStore: ReadonlyMap<string, GroupVolume>;
  readonly mergingOrigins: ReadonlySet<string>;
}

/**
 * The volumes that LVM shows, in the order of the metadata.
 * @param found all physical volumes that there are, of whatever group
 */
export function mapLogicalVolumes(group: VolumeGroup, found: readonly FoundPhysicalVolume[]): LogicalVolume[] {
  const context: GroupContext = {
    extentBytes: group.extentBytes,
    places: placeMembers(group, found),
    logicalNames: new Set(group.logicalVolumes.map(({ name }) => name)),
    ...findSnapshots(group),
  };
  const shown = group.logicalVolumes.filter((volume) => isShown(volume, context));
  return shown.map((volume) => mapLogicalVolume(group.name, volume, context));
}

/** What the metadata areas of a physical volume say counts for more than that a group has its UUID. */
export function mayBelongTo(volume: FoundPhysicalVolume, group: VolumeGroup): boolean {
  return volume.ownGroup === undefined || volume.ownGroup === group.uuid;
}

/**
 * As lv_is_visible() of lvm2: a snapshot is hidden itself, and is shown if the volume that ties it to its origin is visible;
 * that one is never shown.
 */
function isShown(volume: GroupVolume, context: GroupContext): boolean {
  const tie = context.tiesByStore.get(volume.name) ?? volume;
  return tie.status.includes('VISIBLE') && snapshotOf(volume) === undefined;
}

function findSnapshots(group: VolumeGroup): Pick<GroupContext, 'tiesByStore' | 'mergingOrigins'> {
  const tiesByStore = new Map<string, GroupVolume>();
  const mergingOrigins = new Set<string>();
  for (const volume of group.logicalVolumes) {
    const snapshot = snapshotOf(volume);
    if (snapshot === undefined) continue;
    tiesByStore.set(snapshot.store, volume);
    if (snapshot.isMerging) mergingOrigins.add(snapshot.origin);
  }
  return { tiesByStore, mergingOrigins };
}

function snapshotOf(volume: GroupVolume): ClassicSnapshot | undefined {
  return volume.segments.find(({ snapshot }) => snapshot !== undefined)?.snapshot;
}

function placeMembers(
  group: VolumeGroup,
  found: readonly FoundPhysicalVolume[],
): ReadonlyMap<string, MemberPlace | string> {
  const foundByUuid = new Map<string, FoundPhysicalVolume[]>();
  for (const volume of found.filter((candidate) => mayBelongTo(candidate, group))) {
    foundByUuid.set(volume.uuid, [...(foundByUuid.get(volume.uuid) ?? []), volume]);
  }
  return new Map(
    [...group.physicalVolumes].map(([key, member]) => [key, placeMember(member, foundByUuid.get(member.uuid) ?? [])]),
  );
}

function placeMember(member: GroupMember, candidates: readonly FoundPhysicalVolume[]): MemberPlace | string {
  const what = `the physical volume ${member.uuid} (last seen as ${member.device})`;
  const [found, other] = candidates;
  if (found === undefined) return `${what} is missing`;
  if (other !== undefined) return `${what} is there more than once, as ${found.name} and ${other.name}`;
  if (member.isMarkedMissing) return `${what} was missing when its group was changed, so what is on it may be old`;
  return { member, found };
}

function mapLogicalVolume(volumeGroup: string, volume: GroupVolume, context: GroupContext): LogicalVolume {
  const { name, uuid, sizeBytes } = volume;
  const reasons = new Set(reasonsOf(volume, context));
  const segments: Segment[] = [];
  for (const segment of volume.segments) {
    const place = placeSegment(segment, context);
    if (typeof place === 'string') reasons.add(place);
    else segments.push(place);
  }
  const isSupported = reasons.size === 0;
  return {
    volumeGroup,
    name,
    uuid,
    sizeBytes,
    disk: isSupported ? new MappedDisk(sizeBytes, segments) : undefined,
    unsupported: isSupported ? undefined : joinReasons([...reasons]),
  };
}

/** Why a volume is not what its segments hold. */
function reasonsOf({ name, status }: GroupVolume, context: GroupContext): string[] {
  const reasons: string[] = [];
  const tie = context.tiesByStore.get(name);
  const origin = tie && snapshotOf(tie)?.origin;
  if (origin !== undefined) reasons.push(`it is a snapshot of ${origin}`);
  if (context.mergingOrigins.has(name)) reasons.push('a snapshot is being merged into it');
  for (const flag of status) {
    if (!HARMLESS_STATUS.includes(flag)) reasons.push(`it has the status ${flag}`);
  }
  return reasons;
}

/** Where a segment is, or the reason why it cannot be read. */
function placeSegment(segment: GroupSegment, context: GroupContext): Segment | string {
  const [stripe, second] = segment.stripes;
  if (stripe === undefined) return `it is of the type ${segment.type}`;
  if (second !== undefined) return `it is striped over ${segment.stripes.length} areas`;
  const place = context.places.get(stripe.area);
  if (place === undefined) return reasonForUnknownArea(stripe.area, context);
  if (typeof place === 'string') return place;
  const { member, found } = place;
  if (stripe.startExtent + segment.extentCount > member.extentCount) {
    return `it goes past the last extent of the physical volume ${found.name}`;
  }
  const offset = member.startBytes + stripe.startExtent * context.extentBytes;
  const sizeBytes = segment.extentCount * context.extentBytes;
  // A sum above 2^53 is not exact, but larger than any disk.
  if (offset + sizeBytes > found.disk.sizeBytes) {
    return `it goes past the end of the physical volume ${found.name}, of which only ${found.disk.sizeBytes} bytes are there`;
  }
  return { startBytes: segment.startExtent * context.extentBytes, sizeBytes, disk: found.disk, offset };
}

function reasonForUnknownArea(area: string, context: GroupContext): string {
  return context.logicalNames.has(area)
    ? `it lies on the logical volume ${area}`
    : `its physical volume ${quote(area)} is not in the group`;
}

function joinReasons(reasons: readonly string[]): string {
  const more = reasons.length > MAX_REASONS ? [`${reasons.length - MAX_REASONS} more`] : [];
  return [...reasons.slice(0, MAX_REASONS), ...more].join('; ');
}
