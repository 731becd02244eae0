/** Reads the label of a physical volume and the metadata texts that its metadata areas point to. */

import type { Disk } from '../../disk/disk.ts';
import { attempt, isLocalDamage } from './attempt.ts';
import { invalid, toUuid } from './config-fields.ts';
import { type ParseBudget, parseConfig } from './parse-config.ts';
import { decodeVolumeGroup, type VolumeGroup } from './volume-group.ts';
import { lvmChecksum } from './wire/checksum.ts';
import {
  type DiskLocation,
  decodeLabel,
  hasLabelMagic,
  LABEL_SCAN_SECTORS,
  LABEL_SECTOR_BYTES,
  type PhysicalVolumeHeader,
} from './wire/label.ts';
import {
  decodeMetadataArea,
  MDA_HEADER_BYTES,
  MDA_VERSION,
  type MetadataArea,
  type MetadataLocation,
} from './wire/metadata-area.ts';

/** LVM cannot write more than io_memory_size of lvm.conf(5), 8 MiB unless it is changed; to parse that takes some 200 MiB. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;
/** Texts that differ, of all physical volumes: one for each group is usual, and one more after an interrupted change. */
const MAX_ALL_TEXTS_BYTES = 2 * MAX_TEXT_BYTES;
/** Of all texts. A logical volume of one segment takes about 15, and 350 bytes: this is what fits in io_memory_size. */
const MAX_ITEMS = 2 ** 19;

export interface PhysicalVolumeContents {
  readonly uuid: string;
  /** As it was when the physical volume was made. */
  readonly sizeBytes: number;
  /** What its metadata areas say, one for each area that is in use and can be read. */
  readonly groups: readonly VolumeGroup[];
}

/** A sector that says that it is a label. */
export interface LabelSector {
  readonly number: number;
  readonly bytes: Buffer;
}

/** What has been read of all physical volumes so far. */
export interface MetadataTexts {
  readonly budget: ParseBudget;
  bytesLeft: number;
  /** By size and checksum, as LVM itself tells whether it knows a text. */
  readonly known: Map<string, VolumeGroup>;
}

export function createMetadataTexts(): MetadataTexts {
  return { budget: { itemsLeft: MAX_ITEMS }, bytesLeft: MAX_ALL_TEXTS_BYTES, known: new Map() };
}

/** The sectors of a disk that say that they are a label of LVM2; those that cannot be read do not say so. */
export function findLabels(disk: Disk): LabelSector[] {
  const sectors = Array.from({ length: LABEL_SCAN_SECTORS }, (_, number) => ({
    number,
    bytes: readLabelSector(disk, number),
  }));
  return sectors.filter(({ bytes }) => hasLabelMagic(bytes));
}

/**
 * @param name names the physical volume in `problems`, which get what is damaged
 * @throws Qcow2fsError DAMAGED if the label is damaged or missing: then nothing can be told of the physical volume.
 */
export function readPhysicalVolume(
  name: string,
  disk: Disk,
  texts: MetadataTexts,
  problems: string[],
): PhysicalVolumeContents {
  const header = readHeader(disk);
  const uuid = toUuid(header.uuid);
  const groups: VolumeGroup[] = [];
  for (const location of header.metadataAreas) {
    const what = `${name}: the LVM metadata area at offset ${location.offset}`;
    const group = attempt(what, problems, () => readGroup(disk, location, texts));
    if (group !== undefined) groups.push(group);
  }
  return { uuid, sizeBytes: header.deviceSizeBytes, groups };
}

function readLabelSector(disk: Disk, number: number): Buffer {
  const sector = Buffer.alloc(LABEL_SECTOR_BYTES);
  if ((number + 1) * LABEL_SECTOR_BYTES > disk.sizeBytes) return sector;
  try {
    disk.readAt(sector, 0, number * LABEL_SECTOR_BYTES, LABEL_SECTOR_BYTES);
  } catch (error) {
    if (!isLocalDamage(error)) throw error;
    return Buffer.alloc(LABEL_SECTOR_BYTES);
  }
  return sector;
}

/** As find_label() of lvm2: the first label that is right in itself. */
function readHeader(disk: Disk): PhysicalVolumeHeader {
  let reason = 'the LVM label is missing or cannot be read';
  for (const { number, bytes } of findLabels(disk)) {
    const label = decodeLabel(bytes);
    if (!label.isChecksumRight) reason = 'the LVM label is damaged: its checksum is wrong';
    else if (label.sectorNumber !== number) reason = `the LVM label in sector ${number} is for another sector`;
    else if (label.header === undefined) reason = 'the LVM label is damaged: its lists of areas have no end';
    else return label.header;
  }
  throw invalid(reason);
}

/** The group as one metadata area has it; undefined if the area is not in use. */
function readGroup(disk: Disk, { offset }: DiskLocation, texts: MetadataTexts): VolumeGroup | undefined {
  const area = decodeMetadataArea(readWithin(disk, offset, MDA_HEADER_BYTES));
  requireArea(area, offset);
  const { text } = area;
  // A physical volume without a group has no text.
  if (text.offset === 0 || text.isIgnored) return undefined;
  const key = `${text.sizeBytes} ${text.checksum}`;
  let group = texts.known.get(key);
  if (group === undefined) {
    group = decodeVolumeGroup(parseConfig(readText(disk, area, texts).toString('latin1'), texts.budget));
    texts.known.set(key, group);
  }
  return group;
}

function requireArea(area: MetadataArea, offset: number): void {
  if (!area.hasMagic) throw invalid('its header is missing');
  if (!area.isChecksumRight) throw invalid('the checksum of its header is wrong');
  if (area.version !== MDA_VERSION) throw invalid(`its version is ${area.version}, which is not known`);
  if (area.start !== offset) throw invalid(`its header says that it is at offset ${area.start}`);
}

function readText(disk: Disk, area: MetadataArea, texts: MetadataTexts): Buffer {
  const { offset, sizeBytes, checksum } = area.text;
  requireWithinArea(area.text, area.sizeBytes);
  if (sizeBytes > MAX_TEXT_BYTES) throw invalid(`its text has ${sizeBytes} bytes, which is too much to be read`);
  if (sizeBytes > texts.bytesLeft) throw invalid('there is more text in all areas than can be read');
  texts.bytesLeft -= sizeBytes;
  // The text goes on behind the header when it comes to the end of the area.
  const beforeEnd = Math.min(sizeBytes, area.sizeBytes - offset);
  const text = Buffer.concat([
    readWithin(disk, area.start + offset, beforeEnd),
    readWithin(disk, area.start + MDA_HEADER_BYTES, sizeBytes - beforeEnd),
  ]);
  if (lvmChecksum(text) !== checksum) throw invalid('the checksum of its text is wrong');
  return text;
}

function requireWithinArea({ offset, sizeBytes }: MetadataLocation, areaBytes: number): void {
  const isInside = offset >= MDA_HEADER_BYTES && offset < areaBytes && sizeBytes <= areaBytes - MDA_HEADER_BYTES;
  if (!isInside) throw invalid(`its text (${sizeBytes} bytes at ${offset}) is not within its ${areaBytes} bytes`);
}

function readWithin(disk: Disk, offset: number, length: number): Buffer {
  if (offset + length > disk.sizeBytes) {
    throw invalid(`${length} bytes at offset ${offset} go past the end of the disk (${disk.sizeBytes} bytes)`);
  }
  const bytes = Buffer.alloc(length);
  disk.readAt(bytes, 0, offset, length);
  return bytes;
}
