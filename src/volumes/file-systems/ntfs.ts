/**
 * NTFS. Little-endian (libntfs-3g, include/ntfs-3g/layout.h); offsets within the boot sector:
 *
 * | offset | size | field                                                                          |
 * |--------|------|--------------------------------------------------------------------------------|
 * |      3 |    8 | oem_id "NTFS    "                                                              |
 * |     11 |    2 | bytes per sector                                                               |
 * |     13 |    1 | sectors per cluster, or from 240 on 2 to the power of 256 minus it             |
 * |     14 |   10 | reserved sectors, FATs, root entries, sectors, (media), sectors per FAT: zero  |
 * |     32 |    4 | large sectors: zero                                                            |
 * |     40 |    8 | number_of_sectors                                                              |
 * |     48 |    8 | mft_lcn                                                                        |
 * |     56 |    8 | mftmirr_lcn                                                                    |
 * |     64 |    1 | clusters per MFT record, or minus the power of 2 that its bytes are            |
 * |     72 |    8 | volume_serial_number                                                           |
 */

import { decodeUtf16Label, isPowerOfTwo, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import { isLogFileClean } from './ntfs-log-file.ts';
import { hasMftRecord, type MftPlace, readMftRecord, residentValueOf } from './ntfs-mft.ts';
import type { ProbeSource } from './probe-source.ts';

const BOOT_SECTOR_BYTES = 512;
const OEM_ID = 'NTFS    ';
/** Windows 10 has no larger clusters. */
const MAX_CLUSTER_BYTES = 2 * 1024 * 1024;
/** Records are 1 or 4 KiB; libblkid lets them be up to 64 clusters. */
const MAX_RECORD_BYTES = 64 * 1024;

const FILE_MFT = 0;
const FILE_VOLUME = 3;
const AT_VOLUME_NAME = 0x60;
const AT_VOLUME_INFORMATION = 0x70;
const VOLUME_FLAGS_OFFSET = 10;
const VOLUME_IS_DIRTY = 0x1;

export const ntfs: Prober = {
  probe(source): FileSystemProbe | undefined {
    const boot = source.read(0, BOOT_SECTOR_BYTES);
    const place = boot && decodePlace(boot);
    if (boot === undefined || place === undefined) return undefined;
    if (!hasMftRecord(source, place, FILE_MFT) || !hasMftRecord(source, place, FILE_VOLUME)) return undefined;
    const volume = readMftRecord(source, place, FILE_VOLUME);
    const name = volume && residentValueOf(volume, AT_VOLUME_NAME);
    return {
      type: 'ntfs',
      label: name && decodeUtf16Label(name, 'little'),
      uuid: boot.readBigUInt64LE(72).toString(16).toUpperCase().padStart(16, '0'),
      isDirty: volume && isDirty(source, place, volume),
      sizeBytes: toSizeBytes(boot.readBigUInt64LE(40), boot.readUInt16LE(11)),
      sectorBytes: boot.readUInt16LE(11),
    };
  },
};

/** The checks of libblkid/src/superblocks/ntfs.c */
function decodePlace(boot: Buffer): MftPlace | undefined {
  if (boot.toString('latin1', 3, 11) !== OEM_ID) return undefined;
  const sectorBytes = boot.readUInt16LE(11);
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 256 || sectorBytes > 4096) return undefined;
  const clusterCode = boot.readUInt8(13);
  if (!isPowerOfTwo(clusterCode) && (clusterCode < 240 || clusterCode > 249)) return undefined;
  const clusterSectors = clusterCode >= 240 ? 2 ** (256 - clusterCode) : clusterCode;
  const clusterBytes = sectorBytes * clusterSectors;
  if (clusterBytes > MAX_CLUSTER_BYTES) return undefined;
  const unused = [boot.subarray(14, 21), boot.subarray(22, 24), boot.subarray(32, 36)];
  if (unused.some((field) => field.some((byte) => byte !== 0))) return undefined;
  const recordCode = boot.readInt8(64);
  const recordBytes = recordCode > 0 ? recordCode * clusterBytes : 2 ** -recordCode;
  if (!isPowerOfTwo(recordBytes) || recordBytes < 512 || recordBytes > MAX_RECORD_BYTES) return undefined;
  const clusterCount = boot.readBigUInt64LE(40) / BigInt(clusterSectors);
  const mftCluster = boot.readBigUInt64LE(48);
  if (mftCluster > clusterCount || boot.readBigUInt64LE(56) > clusterCount) return undefined;
  return { mftOffset: Number(mftCluster) * clusterBytes, recordBytes, clusterBytes };
}

/**
 * The flag asks for chkdsk(8). Windows does not set it while the volume is mounted, but leaves transactions in the journal;
 * ntfs-3g does neither, so that a volume that it has mounted cannot be told from a clean one. Whether Windows is
 * hibernated is not looked for.
 */
function isDirty(source: ProbeSource, place: MftPlace, volume: Buffer): boolean | undefined {
  const information = residentValueOf(volume, AT_VOLUME_INFORMATION);
  if (information === undefined || information.length < VOLUME_FLAGS_OFFSET + 2) return undefined;
  if (information.readUInt16LE(VOLUME_FLAGS_OFFSET) & VOLUME_IS_DIRTY) return true;
  const isClean = isLogFileClean(source, place);
  return isClean === undefined ? undefined : !isClean;
}
