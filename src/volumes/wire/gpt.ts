/**
 * The GUID partition table (UEFI specification 2.10, chapter 5.3), little-endian. Bytes only: no policy, no I/O.
 *
 * Header, in LBA 1 and, as a backup, in the last LBA:
 * | offset | size | field                    |
 * |--------|------|--------------------------|
 * |      0 |    8 | Signature "EFI PART"     |
 * |      8 |    4 | Revision                 |
 * |     12 |    4 | HeaderSize               |
 * |     16 |    4 | HeaderCRC32              |
 * |     20 |    4 | reserved                 |
 * |     24 |    8 | MyLBA                    |
 * |     32 |    8 | AlternateLBA             |
 * |     40 |    8 | FirstUsableLBA           |
 * |     48 |    8 | LastUsableLBA            |
 * |     56 |   16 | DiskGUID                 |
 * |     72 |    8 | PartitionEntryLBA        |
 * |     80 |    4 | NumberOfPartitionEntries |
 * |     84 |    4 | SizeOfPartitionEntry     |
 * |     88 |    4 | PartitionEntryArrayCRC32 |
 *
 * Entry:
 * | offset | size | field                             |
 * |--------|------|-----------------------------------|
 * |      0 |   16 | PartitionTypeGUID, zeros: unused  |
 * |     16 |   16 | UniquePartitionGUID               |
 * |     32 |    8 | StartingLBA                       |
 * |     40 |    8 | EndingLBA, the last of it         |
 * |     48 |    8 | Attributes                        |
 * |     56 |   72 | PartitionName, UTF-16             |
 */

export const GPT_SIGNATURE = 'EFI PART';
export const GPT_HEADER_BYTES = 92;
export const GPT_ENTRY_BYTES = 128;
export const HEADER_CRC32_OFFSET = 16;

const UNUSED_TYPE = '00000000-0000-0000-0000-000000000000';
const ATTRIBUTE_LEGACY_BIOS_BOOTABLE = 1n << 2n;
const NAME_OFFSET = 56;

/** LBAs above 2^53 are not exact; they are past the end of any disk either way. */
export interface GptHeader {
  readonly headerSize: number;
  readonly headerCrc32: number;
  readonly myLba: number;
  readonly alternateLba: number;
  readonly firstUsableLba: number;
  readonly lastUsableLba: number;
  readonly diskGuid: string;
  readonly partitionEntryLba: number;
  readonly entryCount: number;
  readonly entryBytes: number;
  readonly entryArrayCrc32: number;
}

export interface GptEntry {
  /** In upper case. */
  readonly typeGuid: string;
  readonly uniqueGuid: string;
  readonly startingLba: number;
  readonly endingLba: number;
  readonly isLegacyBootable: boolean;
  /** Without the NUL and what follows it; what is not UTF-16 is U+FFFD. */
  readonly name: string;
}

/** The fields of a header, or undefined if the signature is not there. At least GPT_HEADER_BYTES bytes. */
export function decodeGptHeader(bytes: Buffer): GptHeader | undefined {
  if (bytes.toString('latin1', 0, 8) !== GPT_SIGNATURE) return undefined;
  return {
    headerSize: bytes.readUInt32LE(12),
    headerCrc32: bytes.readUInt32LE(HEADER_CRC32_OFFSET),
    myLba: readLba(bytes, 24),
    alternateLba: readLba(bytes, 32),
    firstUsableLba: readLba(bytes, 40),
    lastUsableLba: readLba(bytes, 48),
    diskGuid: decodeGuid(bytes, 56),
    partitionEntryLba: readLba(bytes, 72),
    entryCount: bytes.readUInt32LE(80),
    entryBytes: bytes.readUInt32LE(84),
    entryArrayCrc32: bytes.readUInt32LE(88),
  };
}

/** The entry at `offset`, or undefined for an unused one. */
export function decodeGptEntry(bytes: Buffer, offset: number): GptEntry | undefined {
  const typeGuid = decodeGuid(bytes, offset);
  if (typeGuid === UNUSED_TYPE) return undefined;
  return {
    typeGuid: typeGuid.toUpperCase(),
    uniqueGuid: decodeGuid(bytes, offset + 16),
    startingLba: readLba(bytes, offset + 32),
    endingLba: readLba(bytes, offset + 40),
    isLegacyBootable: (bytes.readBigUInt64LE(offset + 48) & ATTRIBUTE_LEGACY_BIOS_BOOTABLE) !== 0n,
    name: decodeName(bytes.subarray(offset + NAME_OFFSET, offset + GPT_ENTRY_BYTES)),
  };
}

/** The first three fields of a GUID are little-endian numbers, the rest are bytes in their order. */
function decodeGuid(bytes: Buffer, offset: number): string {
  const fields = [
    bytes.readUInt32LE(offset).toString(16).padStart(8, '0'),
    bytes
      .readUInt16LE(offset + 4)
      .toString(16)
      .padStart(4, '0'),
    bytes
      .readUInt16LE(offset + 6)
      .toString(16)
      .padStart(4, '0'),
  ];
  return [
    ...fields,
    bytes.toString('hex', offset + 8, offset + 10),
    bytes.toString('hex', offset + 10, offset + 16),
  ].join('-');
}

function decodeName(bytes: Buffer): string {
  const text = new TextDecoder('utf-16le', { ignoreBOM: true }).decode(bytes);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

function readLba(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64LE(offset));
}
