/**
 * exFAT. Little-endian (Microsoft, "exFAT file system specification"); offsets within the boot sector:
 *
 * | offset | size | field                                                      |
 * |--------|------|------------------------------------------------------------|
 * |      0 |    3 | JumpBoot                                                   |
 * |      3 |    8 | FileSystemName                                             |
 * |     11 |   53 | MustBeZero                                                 |
 * |     72 |    8 | VolumeLength, in sectors                                   |
 * |     80 |    4 | FatOffset, in sectors                                      |
 * |     84 |    4 | FatLength, in sectors                                      |
 * |     88 |    4 | ClusterHeapOffset, in sectors                              |
 * |     92 |    4 | ClusterCount                                               |
 * |     96 |    4 | FirstClusterOfRootDirectory                                |
 * |    100 |    4 | VolumeSerialNumber                                         |
 * |    106 |    2 | VolumeFlags: bit 1 VolumeDirty                             |
 * |    108 |    1 | BytesPerSectorShift                                        |
 * |    109 |    1 | SectorsPerClusterShift                                     |
 * |    110 |    1 | NumberOfFats                                               |
 * |    510 |    2 | BootSignature                                              |
 *
 * Volume label directory entry (32 bytes): 0x83, the count of characters (at most 11), then these in UTF-16.
 */

import { decodeSerialNumber, decodeUtf16Label, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import type { ProbeSource } from './probe-source.ts';

const BOOT_SECTOR_BYTES = 512;
const VOLUME_DIRTY = 0x2;
const FIRST_CLUSTER = 2;
const LAST_CLUSTER = 0xffff_fff6;
/** The Main Boot Checksum sub-region is the last of 12 sectors. */
const BOOT_REGION_SECTORS = 12;

const ENTRY_BYTES = 32;
const END_OF_DIRECTORY = 0x00;
const VOLUME_LABEL = 0x83;
const MAX_LABEL_CHARACTERS = 11;
/** As of FAT; the label is mostly the first entry. The specification's own limit for a directory is 256 MiB. */
const MAX_DIRECTORY_BYTES = 2 * 1024 * 1024;

export const exfat: Prober = {
  probe(source): FileSystemProbe | undefined {
    const boot = source.read(0, BOOT_SECTOR_BYTES);
    if (boot === undefined || !isValid(boot) || !hasValidChecksum(source, boot)) return undefined;
    return {
      type: 'exfat',
      label: findLabel(source, boot),
      uuid: decodeSerialNumber(boot.subarray(100, 104)),
      isDirty: (boot.readUInt16LE(106) & VOLUME_DIRTY) !== 0,
      sizeBytes: toSizeBytes(boot.readBigUInt64LE(72), sectorBytesOf(boot)),
      sectorBytes: sectorBytesOf(boot),
    };
  },
};

/** exfat_valid_superblock() of libblkid/src/superblocks/exfat.c */
function isValid(boot: Buffer): boolean {
  if (boot.toString('latin1', 0, 11) !== '\xeb\x76\x90EXFAT   ' || boot.readUInt16LE(510) !== 0xaa55) return false;
  const fatCount = boot.readUInt8(110);
  const sectorShift = boot.readUInt8(108);
  const fatOffset = boot.readUInt32LE(80);
  const rootCluster = boot.readUInt32LE(96);
  return (
    boot.subarray(11, 64).every((byte) => byte === 0) &&
    (fatCount === 1 || fatCount === 2) &&
    sectorShift >= 9 &&
    sectorShift <= 12 &&
    boot.readUInt8(109) <= 25 - sectorShift &&
    fatOffset >= 24 &&
    boot.readUInt32LE(88) >= fatOffset + boot.readUInt32LE(84) * fatCount &&
    rootCluster >= FIRST_CLUSTER &&
    rootCluster <= boot.readUInt32LE(92) + 1
  );
}

function hasValidChecksum(source: ProbeSource, boot: Buffer): boolean {
  const sectorBytes = sectorBytesOf(boot);
  const region = source.read(0, BOOT_REGION_SECTORS * sectorBytes);
  if (region === undefined) return false;
  const checked = region.length - sectorBytes;
  let sum = 0;
  for (let index = 0; index < checked; index++) {
    // VolumeFlags and PercentInUse, which change all the time.
    if (index === 106 || index === 107 || index === 112) continue;
    sum = (((sum << 31) | (sum >>> 1)) + region.readUInt8(index)) >>> 0;
  }
  for (let offset = checked; offset < region.length; offset += 4) {
    if (region.readUInt32LE(offset) !== sum) return false;
  }
  return true;
}

function findLabel(source: ProbeSource, boot: Buffer): string | undefined {
  const sectorBytes = sectorBytesOf(boot);
  const clusterBytes = sectorBytes << boot.readUInt8(109);
  const heapOffset = boot.readUInt32LE(88) * sectorBytes;
  const fatOffset = boot.readUInt32LE(80) * sectorBytes;
  let cluster = boot.readUInt32LE(96);
  let totalBytes = 0;
  while (cluster >= FIRST_CLUSTER && cluster <= LAST_CLUSTER) {
    const clusterOffset = heapOffset + (cluster - FIRST_CLUSTER) * clusterBytes;
    for (let done = 0; done < clusterBytes; done += sectorBytes) {
      totalBytes += sectorBytes;
      const sector = source.read(clusterOffset + done, sectorBytes);
      // A chain that runs in a circle ends with the limit.
      if (sector === undefined || totalBytes > MAX_DIRECTORY_BYTES) return undefined;
      for (let offset = 0; offset < sectorBytes; offset += ENTRY_BYTES) {
        if (sector[offset] === END_OF_DIRECTORY) return undefined;
        if (sector[offset] === VOLUME_LABEL) return decodeEntry(sector.subarray(offset, offset + ENTRY_BYTES));
      }
    }
    const next = source.read(fatOffset + cluster * 4, 4);
    if (next === undefined) return undefined;
    cluster = next.readUInt32LE(0);
  }
  return undefined;
}

function decodeEntry(entry: Buffer): string | undefined {
  return decodeUtf16Label(entry.subarray(2, 2 + 2 * Math.min(entry.readUInt8(1), MAX_LABEL_CHARACTERS)), 'little');
}

function sectorBytesOf(boot: Buffer): number {
  return 1 << boot.readUInt8(108);
}
