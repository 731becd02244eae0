/**
 * Whether NTFS's journal ($LogFile) has transactions that a mount would replay. Little-endian (libntfs-3g,
 * include/ntfs-3g/logfile.h): two restart pages, of which the one with the higher sequence number counts.
 *
 * RESTART_PAGE_HEADER:
 * | offset | size | field                                              |
 * |--------|------|----------------------------------------------------|
 * |      0 |    4 | magic "RSTR"; all ones if the journal is empty     |
 * |     16 |    4 | system_page_size: where the second page is         |
 * |     24 |    2 | restart_area_offset                                |
 *
 * RESTART_AREA:
 * |      0 |    8 | current_lsn                                        |
 * |     12 |    2 | client_in_use_list: 0xffff for none                |
 * |     14 |    2 | flags: bit 1 RESTART_VOLUME_IS_CLEAN               |
 */

import { firstClusterOf, type MftPlace, readMftRecord, restoreSectorEnds } from './ntfs-mft.ts';
import type { ProbeSource } from './probe-source.ts';

const FILE_LOGFILE = 2;
const AT_DATA = 0x80;
const MAGIC_RESTART = 'RSTR';
const MAGIC_EMPTY = '\xff\xff\xff\xff';
/** DefaultLogPageSize, which Windows uses whatever the machine's pages are. */
const PAGE_BYTES = 4096;
const RESTART_AREA_BYTES = 16;
const LOGFILE_NO_CLIENT = 0xffff;
const RESTART_VOLUME_IS_CLEAN = 0x2;

interface RestartArea {
  readonly lsn: bigint;
  readonly isClean: boolean;
}

/** Undefined if that cannot be told; the rule is ntfs_is_logfile_clean() of libntfs-3g/logfile.c. */
export function isLogFileClean(source: ProbeSource, place: MftPlace): boolean | undefined {
  const record = readMftRecord(source, place, FILE_LOGFILE);
  const cluster = record && firstClusterOf(record, AT_DATA);
  if (cluster === undefined) return undefined;
  const offset = cluster * place.clusterBytes;
  if (source.has(offset, MAGIC_EMPTY) && source.has(offset + PAGE_BYTES, MAGIC_EMPTY)) return true;
  const first = readRestartArea(source, offset);
  const second = readRestartArea(source, offset + PAGE_BYTES);
  if (first === undefined || second === undefined) return (first ?? second)?.isClean;
  return first.lsn >= second.lsn ? first.isClean : second.isClean;
}

function readRestartArea(source: ProbeSource, offset: number): RestartArea | undefined {
  const page = source.read(offset, PAGE_BYTES);
  if (page?.toString('latin1', 0, 4) !== MAGIC_RESTART || page.readUInt32LE(16) !== PAGE_BYTES) return undefined;
  if (!restoreSectorEnds(page)) return undefined;
  const area = page.subarray(page.readUInt16LE(24));
  if (area.length < RESTART_AREA_BYTES) return undefined;
  return {
    lsn: area.readBigUInt64LE(0),
    isClean: area.readUInt16LE(12) === LOGFILE_NO_CLIENT || (area.readUInt16LE(14) & RESTART_VOLUME_IS_CLEAN) !== 0,
  };
}
