/**
 * FAT12, FAT16 and FAT32. Little-endian (Microsoft, "FAT: General Overview of On-Disk Format" 1.03; the state byte is in
 * include/uapi/linux/msdos_fs.h), offsets within the boot sector; some fields move by 28 bytes with FAT32:
 *
 * | offset | FAT32 | size | field                                                       |
 * |--------|-------|------|-------------------------------------------------------------|
 * |     11 |       |    2 | BPB_BytsPerSec                                              |
 * |     13 |       |    1 | BPB_SecPerClus                                              |
 * |     14 |       |    2 | BPB_RsvdSecCnt: the first FAT begins behind them            |
 * |     16 |       |    1 | BPB_NumFATs                                                 |
 * |     17 |       |    2 | BPB_RootEntCnt, 0 with FAT32                                |
 * |     19 |       |    2 | BPB_TotSec16, or 0                                          |
 * |     21 |       |    1 | BPB_Media                                                   |
 * |     22 |       |    2 | BPB_FATSz16, 0 with FAT32                                   |
 * |     32 |       |    4 | BPB_TotSec32                                                |
 * |        |    36 |    4 | BPB_FATSz32                                                 |
 * |        |    44 |    4 | BPB_RootClus                                                |
 * |        |    48 |    2 | BPB_FSInfo: a sector                                        |
 * |     37 |    65 |    1 | state: bit 0 is set as long as it is mounted                |
 * |     38 |    66 |    1 | BS_BootSig: 0x28 or 0x29                                    |
 * |     39 |    67 |    4 | BS_VolID                                                    |
 * |     54 |    82 |    8 | BS_FilSysType                                               |
 * |    510 |       |    2 | 0x55 0xaa                                                   |
 */

import { decodeLabel, decodeSerialNumber, isPowerOfTwo } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import type { ProbeSource } from './probe-source.ts';
import { DIRECTORY_ENTRY_BYTES, findVfatLabel, type RootDirectory } from './vfat-label.ts';

const BOOT_SECTOR_BYTES = 512;
const FAT32_SHIFT = 28;
/** How many clusters each kind can have at most, as libblkid and Linux take it. */
const FAT12_MAX = 0xff4;
const FAT16_MAX = 0xfff4;
const FAT32_MAX = 0x0ffffff6;

const STATE_DIRTY = 0x01;
/** In the second entry of the FAT: set as long as the volume is not in use. */
const FAT16_CLEAN = 0x8000;
const FAT32_CLEAN = 0x0800_0000;

interface Geometry extends RootDirectory {
  readonly boot: Buffer;
  readonly sectorCount: number;
  readonly isFat12: boolean;
}

export const vfat: Prober = {
  probe(source): FileSystemProbe | undefined {
    const boot = source.read(0, BOOT_SECTOR_BYTES);
    if (boot === undefined || !hasMagic(boot)) return undefined;
    const geometry = decodeGeometry(boot);
    if (geometry === undefined || (geometry.isFat32 && !hasValidFsInfo(source, geometry))) return undefined;
    const extended = geometry.isFat32 ? FAT32_SHIFT : 0;
    const bootSignature = boot[38 + extended];
    const hasSerialNumber = geometry.isFat32 || bootSignature === 0x28 || bootSignature === 0x29;
    const label = findVfatLabel(source, geometry);
    return {
      type: 'vfat',
      label: label && decodeLabel(label),
      uuid: hasSerialNumber ? decodeSerialNumber(boot.subarray(39 + extended, 43 + extended)) : undefined,
      isDirty: isDirty(source, geometry, boot.readUInt8(37 + extended)),
      sizeBytes: geometry.sectorCount * geometry.sectorBytes,
      sectorBytes: geometry.sectorBytes,
    };
  },
};

/** With one of the names the boot signature may be missing; without, a jump and the boot signature must be there. */
function hasMagic(boot: Buffer): boolean {
  const name = boot.toString('latin1', 54, 62);
  const name32 = boot.toString('latin1', 82, 90);
  if (name32.startsWith('MSWIN') || name32 === 'FAT32   ' || name.startsWith('MSDOS')) return true;
  if (['FAT16   ', 'FAT12   ', 'FAT     '].includes(name)) return true;
  // JFS and HPFS have a FAT-like boot sector as well.
  return boot.readUInt16BE(510) === 0x55aa && name !== 'JFS     ' && name !== 'HPFS    ';
}

/** fat_valid_superblock() of libblkid/src/superblocks/vfat.c */
function decodeGeometry(boot: Buffer): Geometry | undefined {
  const sectorBytes = boot.readUInt16LE(11);
  const clusterSectors = boot.readUInt8(13);
  const reservedSectors = boot.readUInt16LE(14);
  const fatCount = boot.readUInt8(16);
  const media = boot.readUInt8(21);
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > 4096) return undefined;
  if (!isPowerOfTwo(clusterSectors) || reservedSectors === 0 || fatCount === 0) return undefined;
  if (media < 0xf8 && media !== 0xf0) return undefined;
  const fatSectors16 = boot.readUInt16LE(22);
  const fatSectors = fatSectors16 || boot.readUInt32LE(36);
  if (fatSectors === 0) return undefined;
  const isFat32 = fatSectors16 === 0;
  const rootEntryCount = boot.readUInt16LE(17);
  const sectorCount = boot.readUInt16LE(19) || boot.readUInt32LE(32);
  const rootSectors = Math.ceil((rootEntryCount * DIRECTORY_ENTRY_BYTES) / sectorBytes);
  const firstSector = reservedSectors + fatCount * fatSectors;
  const clusterCount = Math.floor((sectorCount - firstSector - rootSectors) / clusterSectors);
  if (clusterCount < 0 || clusterCount > (isFat32 ? FAT32_MAX : FAT16_MAX)) return undefined;
  return {
    boot,
    sectorBytes,
    sectorCount,
    isFat32,
    isFat12: !isFat32 && clusterCount < FAT12_MAX,
    fatOffset: reservedSectors * sectorBytes,
    fatEntryCount: Math.floor((fatSectors * sectorBytes) / 4),
    rootOffset: firstSector * sectorBytes,
    rootEntryCount,
    rootCluster: boot.readUInt32LE(44),
    clusterBytes: clusterSectors * sectorBytes,
  };
}

/** Some volumes have no signatures in the FSInfo sector, but never others. */
function hasValidFsInfo(source: ProbeSource, { boot, sectorBytes }: Geometry): boolean {
  const sector = boot.readUInt16LE(48);
  if (sector === 0) return true;
  const info = source.read(sector * sectorBytes, BOOT_SECTOR_BYTES);
  if (info === undefined) return false;
  return (
    ['RRaA', 'RRdA', '\0\0\0\0'].includes(info.toString('latin1', 0, 4)) &&
    ['rrAa', '\0\0\0\0'].includes(info.toString('latin1', 484, 488))
  );
}

/**
 * Linux marks a mounted volume in the boot sector, Windows in the FAT. FAT12 has no mark of Windows or DOS, so that it is
 * never known to be clean.
 */
function isDirty(source: ProbeSource, { fatOffset, isFat12, isFat32 }: Geometry, state: number): boolean | undefined {
  if (state & STATE_DIRTY) return true;
  if (isFat12) return undefined;
  const entry = isFat32
    ? source.read(fatOffset + 4, 4)?.readUInt32LE(0)
    : source.read(fatOffset + 2, 2)?.readUInt16LE(0);
  return entry === undefined ? undefined : !(entry & (isFat32 ? FAT32_CLEAN : FAT16_CLEAN));
}
