/**
 * A volume group as its metadata text describes it (lib/format_text/import_vsn1.c of lvm2). In short:
 *
 *     GROUP {
 *       id  seqno  extent_size (in sectors)
 *       physical_volumes { pv0 { id  device (a hint)  flags  pe_start (in sectors)  pe_count } }
 *       logical_volumes {
 *         NAME { id  status  segment_count
 *           segment1 { start_extent  extent_count  type  stripe_count  stripes = ["pv0", 7] } } } }
 *
 * Extents of a physical volume are counted from its pe_start.
 */

import { attempt } from './attempt.ts';
import {
  countOf,
  invalid,
  isCount,
  keywordOf,
  keywordsOf,
  listOf,
  ownCopy,
  requireName,
  sectionOf,
  textOf,
  uuidOf,
} from './config-fields.ts';
import type { ConfigSection } from './parse-config.ts';
import { quote } from './quote.ts';

const SECTOR_BYTES = 512;

export interface VolumeGroup {
  readonly name: string;
  readonly uuid: string;
  /** Counts the changes: of several texts, the one with the highest number holds. */
  readonly seqno: number;
  readonly extentBytes: number;
  /** By the names that segments have for them. */
  readonly physicalVolumes: ReadonlyMap<string, GroupMember>;
  /** All, hidden ones as well. */
  readonly logicalVolumes: readonly GroupVolume[];
  /** What is not shown, as its description is damaged. */
  readonly problems: readonly string[];
}

/** A physical volume as the group knows it. */
export interface GroupMember {
  readonly uuid: string;
  /** Where it was last seen, for messages. */
  readonly device: string;
  /** What is on it is too old: it was missing when the group was changed. */
  readonly isMarkedMissing: boolean;
  readonly startBytes: number;
  readonly extentCount: number;
}

/** A logical volume as the group knows it. */
export interface GroupVolume {
  readonly name: string;
  readonly uuid: string;
  readonly status: readonly string[];
  readonly sizeBytes: number;
  /** By their start, without gaps or overlaps. */
  readonly segments: readonly GroupSegment[];
}

export interface GroupSegment {
  readonly startExtent: number;
  readonly extentCount: number;
  readonly type: string;
  /** Of segments of the type `striped` only. */
  readonly stripes: readonly Stripe[];
  /** Of segments of the type `snapshot` only. */
  readonly snapshot: ClassicSnapshot | undefined;
}

export interface Stripe {
  /** Of a physical volume, or of a logical volume. */
  readonly area: string;
  readonly startExtent: number;
}

export interface ClassicSnapshot {
  readonly origin: string;
  /** The logical volume with the chunks that differ. */
  readonly store: string;
  /** Its chunks are on their way back into the origin (`lvconvert --merge`). */
  readonly isMerging: boolean;
}

/**
 * The group that a metadata text is about: its first section.
 * @throws Qcow2fsError DAMAGED if the group cannot be told; what concerns one logical volume is only a problem.
 */
export function decodeVolumeGroup(config: ConfigSection): VolumeGroup {
  const [first] = config.sections;
  if (first === undefined) throw invalid('there is no volume group in it');
  const [groupName, group] = first;
  const name = requireName(groupName);
  const extentBytes = countOf(group, 'extent_size') * SECTOR_BYTES;
  if (extentBytes === 0 || !isCount(extentBytes)) throw invalid('extent_size is not possible');
  const problems: string[] = [];
  const physicalVolumes = new Map<string, GroupMember>();
  for (const [key, section] of sectionOf(group, 'physical_volumes').sections) {
    const what = `physical volume ${quote(key)} of the volume group ${name}`;
    const member = attempt(what, problems, () => decodeMember(section));
    if (member !== undefined) physicalVolumes.set(ownCopy(key), member);
  }
  const logicalVolumes: GroupVolume[] = [];
  for (const [key, section] of sectionOf(group, 'logical_volumes').sections) {
    const what = `logical volume ${quote(key)} of the volume group ${name}`;
    const volume = attempt(what, problems, () => decodeVolume(key, section, extentBytes));
    if (volume !== undefined) logicalVolumes.push(volume);
  }
  const [uuid, seqno] = [uuidOf(group, 'id'), countOf(group, 'seqno')];
  return { name, uuid, seqno, extentBytes, physicalVolumes, logicalVolumes, problems };
}

function decodeMember(section: ConfigSection): GroupMember {
  const device = section.values.get('device');
  return {
    uuid: uuidOf(section, 'id'),
    device: typeof device === 'string' ? ownCopy(quote(device)) : 'an unknown device',
    isMarkedMissing: [...keywordsOf(section, 'flags'), ...keywordsOf(section, 'status')].includes('MISSING'),
    startBytes: countOf(section, 'pe_start') * SECTOR_BYTES,
    extentCount: countOf(section, 'pe_count'),
  };
}

function decodeVolume(name: string, section: ConfigSection, extentBytes: number): GroupVolume {
  const segments = [...section.sections.values()].map(decodeSegment).sort((a, b) => a.startExtent - b.startExtent);
  if (segments.length !== countOf(section, 'segment_count')) throw invalid('segment_count is not that of its segments');
  return {
    name: requireName(name),
    uuid: uuidOf(section, 'id'),
    status: keywordsOf(section, 'status'),
    sizeBytes: requireSize(endOf(segments) * extentBytes),
    segments,
  };
}

/** Where the last segment ends. @throws Qcow2fsError DAMAGED for a gap, an overlap, or nothing at all. */
function endOf(segments: readonly GroupSegment[]): number {
  let end = 0;
  for (const { startExtent, extentCount } of segments) {
    if (startExtent !== end) throw invalid(`the segments do not follow each other at extent ${end}`);
    end += extentCount;
  }
  return end;
}

function requireSize(sizeBytes: number): number {
  if (sizeBytes === 0 || !isCount(sizeBytes)) throw invalid(`its size, ${sizeBytes} bytes, is not possible`);
  return sizeBytes;
}

function decodeSegment(section: ConfigSection): GroupSegment {
  const type = keywordOf(section, 'type');
  const extentCount = countOf(section, 'extent_count');
  if (extentCount === 0) throw invalid('extent_count is 0');
  return {
    startExtent: countOf(section, 'start_extent'),
    extentCount,
    type,
    // get_segtype_from_string() takes "linear" for a striped segment with one stripe.
    stripes: type === 'striped' || type === 'linear' ? decodeStripes(section) : [],
    snapshot: type === 'snapshot' ? decodeSnapshot(section) : undefined,
  };
}

function decodeStripes(section: ConfigSection): Stripe[] {
  const list = listOf(section, 'stripes');
  const stripes: Stripe[] = [];
  for (let at = 0; at < list.length; at += 2) {
    const [area, startExtent] = [list[at], list[at + 1]];
    if (typeof area !== 'string' || !isCount(startExtent)) throw invalid('stripes is no list of names and extents');
    stripes.push({ area: ownCopy(area), startExtent });
  }
  const isCounted = stripes.length === countOf(section, 'stripe_count');
  if (stripes.length === 0 || !isCounted) throw invalid('stripe_count is not that of its stripes');
  return stripes;
}

function decodeSnapshot(section: ConfigSection): ClassicSnapshot {
  const isMerging = section.values.has('merging_store');
  return {
    origin: requireName(textOf(section, 'origin')),
    store: requireName(textOf(section, isMerging ? 'merging_store' : 'cow_store')),
    isMerging,
  };
}
