/** In which format a backing file is read: by what the image above says about it, and by its look where that says nothing. */

import { driverInPlaceOf, type ImpliedName, isFileDriver, isProtocolDriver } from '../disk/implied-name.ts';
import { Qcow2fsError } from '../errors.ts';
import { hasQcowMagic, lookOf, type Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { DISK_FORMATS } from '../qcow2/wire/other-formats.ts';
import { FileStorage, type OpenFile } from '../storage/file-storage.ts';

/** What reads a backing file, as in `ImpliedName`. */
export interface Reading extends Omit<ImpliedName, 'path'> {
  /** Where the image names something else than a file, whose bytes are those of the disk: its driver. */
  readonly protocol?: string | undefined;
}

/**
 * How another file is read in place of the one that the image names.
 * @param imagePath names the image in errors
 * @throws Qcow2fsError UNSUPPORTED if the image says it in a way that is not understood here.
 */
export function readingInPlaceOf(imagePath: string, qcow2: Qcow2Metadata, backingName: string): Reading {
  const driver = driverInPlaceOf(imagePath, backingName, qcow2.backingFormat);
  // Where the stated format is lost, a driver in the name may not be what counts: the format beats it.
  if (qcow2.lostBackingFormat !== undefined) return { driver: undefined, fileDriver: undefined };
  const protocol = isProtocolDriver(driver) ? driver : undefined;
  return { driver: protocol === undefined ? driver : 'raw', fileDriver: undefined, protocol };
}

/**
 * True if the file is read as qcow2, false if its bytes are the disk.
 * @param imagePath the image whose backing file it is
 * @throws Qcow2fsError UNSUPPORTED for another format, and for a file that is not what the image says.
 */
export function isReadAsQcow2(file: OpenFile, imagePath: string, reading: Reading): boolean {
  requireKind(file, imagePath, reading);
  requireNotQcow2(file, imagePath, reading);
  const { driver } = reading;
  if (driver === 'qcow2') return true;
  if (driver === 'raw' || isFileDriver(driver)) return false;
  if (driver === undefined) return isQcow2ByItsLook(file, imagePath);
  throw new Qcow2fsError('UNSUPPORTED', `${imagePath}: the format "${driver}" of its backing file is not supported`, {
    data: { file: imagePath, format: driver },
  });
}

/** As QEMU (raw_open_common): its driver `file` takes regular files, and `host_device` devices. */
function requireKind(file: OpenFile, imagePath: string, { fileDriver }: Reading): void {
  if (fileDriver === undefined || file.isBlockDevice === (fileDriver === 'host_device')) return;
  const kind = file.isBlockDevice ? 'a block device' : 'a regular file';
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${imagePath}: its backing file ${file.path} is ${kind}, which the driver "${fileDriver}" does not take`,
    { data: { file: imagePath, backingFile: file.path } },
  );
}

/**
 * What a server gives as the bytes of a disk is rarely a disk that looks like qcow2; who puts a qcow2 file in its place may well mean
 * the disk in that.
 */
function requireNotQcow2(file: OpenFile, imagePath: string, { protocol }: Reading): void {
  if (protocol === undefined || !hasQcowMagic(new FileStorage(file))) return;
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${file.path} looks like qcow2, but ${imagePath} names the driver "${protocol}", which gives the bytes of a disk as ` +
      `they are; say what is right: qemu-img rebase -u -b FILE -F FORMAT ${imagePath}`,
    { data: { file: imagePath, backingFile: file.path, driver: protocol } },
  );
}

/**
 * QEMU probes all its formats. A raw disk is what shows none of them: bytes of another format, or ciphertext, must not
 * pass for a disk.
 * @throws Qcow2fsError UNSUPPORTED for what looks like another format of disks.
 */
function isQcow2ByItsLook(file: OpenFile, imagePath: string): boolean {
  const storage = new FileStorage(file);
  if (hasQcowMagic(storage)) return true;
  const format = lookOf(storage, DISK_FORMATS);
  if (format === undefined) return false;
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${imagePath} does not say the format of its backing file ${file.path}, which looks like ${format}; if it is raw, ` +
      `say so: qemu-img rebase -u -b FILE -F raw ${imagePath}`,
    { data: { file: imagePath, backingFile: file.path, format } },
  );
}
