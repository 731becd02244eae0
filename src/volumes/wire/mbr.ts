/**
 * The master boot record, and the extended boot records of logical partitions, little-endian. Bytes only: no policy, no I/O.
 *
 * | offset | size | field                              |
 * |--------|------|------------------------------------|
 * |      0 |  440 | boot code                          |
 * |    440 |    4 | disk signature                     |
 * |    446 |   64 | four entries                       |
 * |    510 |    2 | 55 aa                              |
 *
 * Entry:
 * |      0 |    1 | boot indicator: 0x80 or 0          |
 * |      1 |    3 | first sector as CHS, not used      |
 * |      4 |    1 | type                               |
 * |      5 |    3 | last sector as CHS, not used       |
 * |      8 |    4 | first sector, relative in an EBR   |
 * |     12 |    4 | count of sectors, 0: unused        |
 *
 * A boot sector of FAT, NTFS or exFAT has the same last two bytes and, instead of boot code (BIOS parameter block):
 * |      0 |    1 | 0xeb or 0xe9: a jump               |
 * |      3 |    8 | OEM name                           |
 * |     11 |    2 | bytes per sector                   |
 * |     13 |    1 | sectors per cluster                |
 * |     14 |    2 | reserved sectors                   |
 * |     16 |    1 | count of FATs                      |
 * |     21 |    1 | media                              |
 */

/** The table has this length whatever the sector size is. */
export const MBR_BYTES = 512;

const ENTRIES_OFFSET = 446;
const ENTRY_COUNT = 4;
const ENTRY_BYTES = 16;

export const MBR_TYPE_GPT_PROTECTIVE = 0xee;
/** DOS, Windows 95 with LBA, Linux: block/partitions/msdos.c takes all three for extended. */
const EXTENDED_TYPES = [0x05, 0x0f, 0x85];

export interface MbrEntry {
  readonly bootIndicator: number;
  readonly type: number;
  readonly startSector: number;
  readonly sectorCount: number;
}

/** True if the sector has the mark of an MBR, an EBR or a boot sector. */
export function hasBootSignature(bytes: Buffer): boolean {
  return bytes[510] === 0x55 && bytes[511] === 0xaa;
}

/** The four entries, unused ones as well. */
export function decodeMbrEntries(bytes: Buffer): MbrEntry[] {
  return Array.from({ length: ENTRY_COUNT }, (_, index) => {
    const offset = ENTRIES_OFFSET + index * ENTRY_BYTES;
    return {
      bootIndicator: bytes.readUInt8(offset),
      type: bytes.readUInt8(offset + 4),
      startSector: bytes.readUInt32LE(offset + 8),
      sectorCount: bytes.readUInt32LE(offset + 12),
    };
  });
}

/** Other sectors with the signature, as the boot sector of a file system, have other bytes there (block/partitions/msdos.c). */
export function haveBootIndicators(entries: readonly MbrEntry[]): boolean {
  return entries.every(({ bootIndicator }) => bootIndicator === 0 || bootIndicator === 0x80);
}

export function decodeDiskSignature(bytes: Buffer): number {
  return bytes.readUInt32LE(440);
}

export function isExtendedType(type: number): boolean {
  return EXTENDED_TYPES.includes(type);
}

/**
 * True if the sector has the parameters of a file system that Microsoft's systems boot from. The checks for FAT are those of
 * libblkid (superblocks/vfat.c) and of the kernel (fat_read_bpb). Boot code of an MBR may pass them too.
 */
export function hasFileSystemParameters(bytes: Buffer): boolean {
  const jump = bytes[0];
  if (jump !== 0xeb && jump !== 0xe9) return false;
  const oemName = bytes.toString('latin1', 3, 11);
  if (oemName === 'NTFS    ' || oemName === 'EXFAT   ') return true;
  const media = bytes.readUInt8(21);
  const bytesPerSector = bytes.readUInt16LE(11);
  return (
    isPowerOfTwo(bytesPerSector) &&
    bytesPerSector >= 512 &&
    bytesPerSector <= 4096 &&
    isPowerOfTwo(bytes.readUInt8(13)) &&
    bytes.readUInt16LE(14) !== 0 &&
    bytes.readUInt8(16) !== 0 &&
    (media === 0xf0 || media >= 0xf8)
  );
}

function isPowerOfTwo(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}
