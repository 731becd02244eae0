/**
 * The label of a physical volume, in one of its first four sectors (lib/label/label.h and lib/format_text/layout.h of
 * lvm2), little-endian. Sectors are of 512 bytes on every disk. Bytes only: no policy, no I/O.
 *
 * | offset | size | field of label_header                                   |
 * |--------|------|---------------------------------------------------------|
 * |      0 |    8 | id "LABELONE"                                           |
 * |      8 |    8 | sector_xl: the number of this sector                    |
 * |     16 |    4 | crc_xl: of the rest of the sector, from offset_xl on    |
 * |     20 |    4 | offset_xl: where in the sector pv_header is             |
 * |     24 |    8 | type "LVM2 001"                                         |
 *
 * | offset | size | field of pv_header                                      |
 * |--------|------|---------------------------------------------------------|
 * |      0 |   32 | pv_uuid                                                 |
 * |     32 |    8 | device_size_xl, in bytes                                |
 * |     40 | 16*n | disk_areas_xl: data areas, up to an offset of 0         |
 * |        | 16*n | metadata areas, up to an offset of 0                    |
 *
 * | offset | size | field of disk_locn                                      |
 * |--------|------|---------------------------------------------------------|
 * |      0 |    8 | offset, in bytes from the start of the physical volume  |
 * |      8 |    8 | size                                                    |
 */

import { readU64LE } from '../../../common/bytes.ts';
import { lvmChecksum } from './checksum.ts';

/** SECTOR_SIZE of lvm2, whatever the sectors of the disk are. */
export const LABEL_SECTOR_BYTES = 512;
/** LABEL_SCAN_SECTORS in lib/label/label.h. */
export const LABEL_SCAN_SECTORS = 4;

const LABEL_ID = 'LABELONE';
const LVM2_LABEL = 'LVM2 001';
const LABEL_HEADER_BYTES = 32;
const CHECKED_FROM = 20;
const PV_HEADER_FIXED_BYTES = 40;
const DISK_LOCN_BYTES = 16;
const UUID_BYTES = 32;

/** Numbers above 2^53 are not exact: whoever uses them compares them with the size of a disk, which is below. */
export interface DiskLocation {
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface PhysicalVolumeLabel {
  readonly sectorNumber: number;
  readonly isChecksumRight: boolean;
  /** Undefined if the label does not have the whole of it. */
  readonly header: PhysicalVolumeHeader | undefined;
}

export interface PhysicalVolumeHeader {
  /** 32 characters, one per byte. */
  readonly uuid: string;
  readonly deviceSizeBytes: number;
  readonly metadataAreas: readonly DiskLocation[];
}

/** True for the sector of a label, whether or not the rest of it is in order. */
export function hasLabelMagic(sector: Buffer): boolean {
  return sector.toString('latin1', 0, 8) === LABEL_ID && sector.toString('latin1', 24, 32) === LVM2_LABEL;
}

/** Decodes the sector of a label (`LABEL_SECTOR_BYTES`), whatever is in it. */
export function decodeLabel(sector: Buffer): PhysicalVolumeLabel {
  return {
    sectorNumber: readU64LE(sector, 8),
    isChecksumRight: sector.readUInt32LE(16) === lvmChecksum(sector.subarray(CHECKED_FROM)),
    header: decodePhysicalVolumeHeader(sector, sector.readUInt32LE(20)),
  };
}

function decodePhysicalVolumeHeader(sector: Buffer, start: number): PhysicalVolumeHeader | undefined {
  const areasStart = start + PV_HEADER_FIXED_BYTES;
  if (start < LABEL_HEADER_BYTES || areasStart > sector.length) return undefined;
  const dataAreas = decodeLocations(sector, areasStart);
  const metadataAreas = dataAreas && decodeLocations(sector, dataAreas.end);
  if (metadataAreas === undefined) return undefined;
  return {
    uuid: sector.toString('latin1', start, start + UUID_BYTES),
    deviceSizeBytes: readU64LE(sector, start + UUID_BYTES),
    metadataAreas: metadataAreas.locations,
  };
}

/** A list up to its end mark; undefined if the sector ends before it. */
function decodeLocations(sector: Buffer, start: number): { locations: DiskLocation[]; end: number } | undefined {
  const locations: DiskLocation[] = [];
  for (let at = start; at + DISK_LOCN_BYTES <= sector.length; at += DISK_LOCN_BYTES) {
    const offset = readU64LE(sector, at);
    if (offset === 0) return { locations, end: at + DISK_LOCN_BYTES };
    locations.push({ offset, sizeBytes: readU64LE(sector, at + 8) });
  }
  return undefined;
}
