/**
 * Where a file has holes: lseek(2) with SEEK_DATA and SEEK_HOLE, which Node.js does not have. It is called through koffi; without that
 * optional package all of a file is data, which is true of every file.
 */

import { loadKoffi } from '../common/koffi.ts';
import type { OpenFile } from './file-storage.ts';

/** include/uapi/linux/fs.h */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export interface FileRange {
  isHole: boolean;
  /** Behind the last byte of the range. */
  end: number;
}

type Seek = (fd: number, offset: number, whence: number) => number;

let seek: Seek | undefined;

/** False if holes cannot be told on this machine. */
export function canTellHoles(): boolean {
  seek ??= loadSeek();
  return seek !== undefined;
}

/** What is at `offset`, which is below the end of the file, and how far that goes; the last hole goes to the end of the file. */
export function rangeAt({ fd, sizeBytes, isBlockDevice }: OpenFile, offset: number, into: FileRange): void {
  into.isHole = false;
  into.end = sizeBytes;
  if (isBlockDevice || !canTellHoles() || seek === undefined) return;
  const data = seek(fd, offset, SEEK_DATA);
  // ENXIO: no data follows. Other errors (EINVAL of a file system without holes) leave it at data.
  if (data < 0) {
    into.isHole = seek(fd, offset, SEEK_HOLE) === offset;
    return;
  }
  into.isHole = data > offset;
  into.end = into.isHole ? data : seek(fd, offset, SEEK_HOLE);
  if (into.end <= offset) into.end = sizeBytes;
}

function loadSeek(): Seek | undefined {
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  const lseek = koffi.load(null).func('int64_t lseek(int, int64_t, int)');
  return (fd, offset, whence) => Number(lseek(fd, offset, whence));
}
