/** Journals of NTFS as Windows leaves them. */

/** Of the journal that mkfs.ntfs makes on a small disk. */
const JOURNAL_BYTES = 2 * 1024 * 1024;
const PAGE_BYTES = 4096;

/** A restart page as Windows writes it (libntfs-3g, include/ntfs-3g/logfile.h): version 1.1 with one client. */
export function restartPage(client: number, flags: number): Buffer {
  const page = Buffer.alloc(4096);
  page.write('RSTR', 'latin1');
  page.writeUInt16LE(0x1e, 4);
  page.writeUInt16LE(9, 6);
  page.writeUInt32LE(4096, 16);
  page.writeUInt32LE(4096, 20);
  page.writeUInt16LE(0x30, 24);
  page.writeUInt16LE(1, 26);
  page.writeUInt16LE(1, 28);
  const area = page.subarray(0x30);
  area.writeBigUInt64LE(0x1000n, 0);
  area.writeUInt16LE(1, 8);
  area.writeUInt16LE(client === 0 ? 0xffff : 0, 10);
  area.writeUInt16LE(client, 12);
  area.writeUInt16LE(flags, 14);
  area.writeUInt32LE(67 - 22, 16);
  area.writeUInt16LE(0xe0, 20);
  area.writeUInt16LE(0x40, 22);
  area.writeBigUInt64LE(BigInt(JOURNAL_BYTES), 24);
  area.writeUInt16LE(0x30, 36);
  area.writeUInt16LE(0x40, 38);
  const record = area.subarray(0x40);
  record.writeUInt16LE(0xffff, 16);
  record.writeUInt16LE(0xffff, 18);
  record.writeUInt32LE(8, 28);
  record.write('NTFS', 32, 'utf16le');
  // The update sequence number stands at the end of each sector.
  page.writeUInt16LE(1, 0x1e);
  for (let end = 510; end < page.length; end += 512) page.writeUInt16LE(1, end);
  return page;
}

/** Writes a journal that was not closed into a file system whose own is empty. */
export function leaveJournalOpen(bytes: Buffer): void {
  // An empty journal is all ones: nothing else is, for two pages.
  const journal = bytes.indexOf(Buffer.alloc(2 * PAGE_BYTES, 0xff));
  for (const offset of [0, PAGE_BYTES]) restartPage(0, 0).copy(bytes, journal + offset);
}
