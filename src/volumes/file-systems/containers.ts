/**
 * What holds other volumes: LVM2 physical volumes, LUKS, BitLocker.
 *
 * LVM2 label (lvm2, lib/label/label.h), in one of the first four sectors, little-endian; the CRC has its own start value and
 * no final inversion (lib/misc/crc.c):
 * | offset | size | field                                          |
 * |--------|------|------------------------------------------------|
 * |      0 |    8 | id "LABELONE"                                  |
 * |      8 |    8 | sector_xl: the sector that it is in            |
 * |     16 |    4 | crc_xl, of what follows up to the sector's end |
 * |     24 |    8 | type "LVM2 001"                                |
 * |     32 |   32 | pv_uuid, as text without its dashes            |
 *
 * LUKS ("LUKS On-Disk Format Specification" 1.2.3; "LUKS2 On-Disk Format Specification" 1.1.1), big-endian:
 * | offset | size | field                                          |
 * |--------|------|------------------------------------------------|
 * |      0 |    6 | magic                                          |
 * |      6 |    2 | version                                        |
 * |     24 |   48 | label, version 2                               |
 * |    168 |   40 | uuid, as text                                  |
 * |    256 |    8 | hdr_offset, version 2: where it is itself      |
 */

import { crc32 } from '../../common/crc32.ts';
import { decodeLabel } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';

const SECTOR_BYTES = 512;
const LABEL_SCAN_SECTORS = 4;
const LVM_INITIAL_CRC = 0xf597a6cf;
const LUKS_MAGIC = 'LUKS\xba\xbe';
const LUKS_HEADER_BYTES = 512;
const BITLOCKER_OEM_ID = '-FVE-FS-';
/** Of a volume that older systems shall see as FAT ("BitLocker To Go"): 4967d63b-2e29-4ad8-8399-f6a339e3d001. */
const BITLOCKER_GUID = '\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01';
const BITLOCKER_GUID_OFFSET = 424;

/** libblkid takes no small device (a floppy disk) for a member of a volume group. */
const MINIMUM_MEMBER_BYTES = 1440 * 1024 + 1;

export const lvm2: Prober = {
  isContainer: true,
  minimumBytes: MINIMUM_MEMBER_BYTES,
  probe(source): FileSystemProbe | undefined {
    for (let sector = 0; sector < LABEL_SCAN_SECTORS; sector++) {
      const label = source.read(sector * SECTOR_BYTES, SECTOR_BYTES);
      if (label !== undefined && isLvmLabel(label, sector)) {
        const digits = label.toString('latin1', 32, 64);
        const uuid = digits.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})/s, '$1-$2-$3-$4-$5-$6-');
        return { type: 'LVM2_member', label: undefined, uuid, isDirty: undefined, sizeBytes: undefined };
      }
    }
    return undefined;
  },
};

function isLvmLabel(label: Buffer, sector: number): boolean {
  return (
    label.toString('latin1', 0, 8) === 'LABELONE' &&
    label.toString('latin1', 24, 32) === 'LVM2 001' &&
    label.readBigUInt64LE(8) === BigInt(sector) &&
    crc32(label.subarray(20), LVM_INITIAL_CRC) === label.readUInt32LE(16)
  );
}

export const luks: Prober = {
  isContainer: true,
  probe(source): FileSystemProbe | undefined {
    const header = source.read(0, LUKS_HEADER_BYTES);
    if (header?.toString('latin1', 0, 6) !== LUKS_MAGIC) return undefined;
    const version = header.readUInt16BE(6);
    if (version !== 1 && version !== 2) return undefined;
    if (version === 2 && header.readBigUInt64BE(256) !== 0n) return undefined;
    return {
      type: 'crypto_LUKS',
      label: version === 2 ? decodeLabel(header.subarray(24, 72)) : undefined,
      uuid: decodeLabel(header.subarray(168, 208)),
      isDirty: undefined,
      sizeBytes: undefined,
    };
  },
};

/** Known by its boot sector only: its metadata, which has the names, is not read. */
export const bitlocker: Prober = {
  isContainer: true,
  probe(source): FileSystemProbe | undefined {
    if (!source.has(3, BITLOCKER_OEM_ID) && !source.has(BITLOCKER_GUID_OFFSET, BITLOCKER_GUID)) return undefined;
    return { type: 'BitLocker', label: undefined, uuid: undefined, isDirty: undefined, sizeBytes: undefined };
  },
};
