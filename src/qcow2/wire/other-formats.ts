/** What a file that is no qcow2 image looks like, from the bytes at its ends: to be told, never to be relied on. */

/** How much of the file `guessFormat` wants to see. */
export const GUESS_BYTES = 36 * 1024;
export const FOOTER_BYTES = 512;

/** Offset, bytes (latin1), name. */
type Signature = readonly [number, string, string];

/** Formats of disks, which QEMU would take for what they are if nobody says otherwise. */
export const DISK_FORMATS: readonly Signature[] = [
  [0, 'KDMV', 'a VMDK image'],
  [0, 'COWD', 'a VMDK image'],
  [0, '# Disk DescriptorFile', 'a VMDK descriptor'],
  [0x40, '\x7f\x10\xda\xbe', 'a VDI image'],
  [0, 'vhdxfile', 'a VHDX image'],
  [0, 'conectix', 'a VHD image'],
  [0, 'QED\0', 'a QED image'],
  [0, 'WithoutFreeSpace', 'a Parallels image'],
  [0, 'WithouFreSpacExt', 'a Parallels image'],
  [0, 'LUKS\xba\xbe', 'a LUKS volume'],
];

/** The first that fits counts. */
const ALL_FORMATS: readonly Signature[] = [
  ...DISK_FORMATS,
  [0, 'VMA\0', 'a Proxmox backup'],
  [0, '\x1f\x8b', 'a gzip file'],
  [0, 'BZh', 'a bzip2 file'],
  [0, '\xfd7zXZ\0', 'an xz file'],
  [0, '\x28\xb5\x2f\xfd', 'a zstd file'],
  [0, 'PK\x03\x04', 'a zip file'],
  [257, 'ustar', 'a tar archive'],
  [512, 'EFI PART', 'a raw disk with a GPT'],
  [4096, 'EFI PART', 'a raw disk with a GPT'],
  [32769, 'CD001', 'an ISO 9660 image'],
  [1080, '\x53\xef', 'a raw ext2, ext3 or ext4 file system'],
  [0, 'XFSB', 'a raw XFS file system'],
  [510, '\x55\xaa', 'a raw disk with a boot sector'],
];

const FOOTERS: readonly Signature[] = [[0, 'conectix', 'a VHD image']];

/** What the first bytes of a file (up to GUESS_BYTES) look like; undefined for nothing that is known. */
export function guessFormat(head: Buffer, signatures = ALL_FORMATS): string | undefined {
  const found = signatures.find(([offset, bytes]) => head.toString('latin1', offset, offset + bytes.length) === bytes);
  return found?.[2];
}

/** What the last FOOTER_BYTES of a file tell, which says more than its beginning: that may be the one of the disk inside. */
export function guessFormatByFooter(footer: Buffer): string | undefined {
  return guessFormat(footer, FOOTERS);
}
