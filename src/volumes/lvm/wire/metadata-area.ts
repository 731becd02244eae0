/**
 * The first sector of a metadata area (lib/format_text/layout.h of lvm2), little-endian. Behind it is a circular buffer
 * of texts, one for each change of the volume group; raw_locns says which of them counts. Bytes only: no policy, no I/O.
 *
 * | offset | size | field of mda_header                                                    |
 * |--------|------|------------------------------------------------------------------------|
 * |      0 |    4 | checksum_xl: of the rest of the sector                                 |
 * |      4 |   16 | magic                                                                  |
 * |     20 |    4 | version: 1                                                             |
 * |     24 |    8 | start: of this area, in bytes from the start of the physical volume    |
 * |     32 |    8 | size: of this area, with this sector                                   |
 * |     40 | 24*n | raw_locns: the committed text, then one that is only precommitted      |
 *
 * | offset | size | field of raw_locn                                                      |
 * |--------|------|------------------------------------------------------------------------|
 * |      0 |    8 | offset, in bytes from the start of the area; 0: there is no text       |
 * |      8 |    8 | size                                                                   |
 * |     16 |    4 | checksum, of the text                                                  |
 * |     20 |    4 | flags                                                                  |
 */

import { readU64LE } from '../../../common/bytes.ts';
import { lvmChecksum } from './checksum.ts';

/** MDA_HEADER_SIZE. */
export const MDA_HEADER_BYTES = 512;
/** FMTT_VERSION. */
export const MDA_VERSION = 1;

/** FMTT_MAGIC. */
const MAGIC = ' LVM2 x[5A%r0N*>';
const CHECKED_FROM = 4;
const RAW_LOCN_IGNORED = 1;

/** Numbers above 2^53 are not exact: whoever uses them compares them with the size of a disk, which is below. */
export interface MetadataArea {
  readonly hasMagic: boolean;
  readonly isChecksumRight: boolean;
  readonly version: number;
  readonly start: number;
  readonly sizeBytes: number;
  readonly text: MetadataLocation;
}

export interface MetadataLocation {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly checksum: number;
  /** LVM keeps no text in this area (`vgchange --metadatacopies`): what is there may be old. */
  readonly isIgnored: boolean;
}

/** Decodes the header of an area (`MDA_HEADER_BYTES`), whatever is in it. */
export function decodeMetadataArea(bytes: Buffer): MetadataArea {
  return {
    hasMagic: bytes.toString('latin1', 4, 20) === MAGIC,
    isChecksumRight: bytes.readUInt32LE(0) === lvmChecksum(bytes.subarray(CHECKED_FROM)),
    version: bytes.readUInt32LE(20),
    start: readU64LE(bytes, 24),
    sizeBytes: readU64LE(bytes, 32),
    text: {
      offset: readU64LE(bytes, 40),
      sizeBytes: readU64LE(bytes, 48),
      checksum: bytes.readUInt32LE(56),
      isIgnored: (bytes.readUInt32LE(60) & RAW_LOCN_IGNORED) !== 0,
    },
  };
}
