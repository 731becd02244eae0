/** New files and folders of the user. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/**
 * Makes a file for its owner alone: what is written may be less public where it comes from. The umask may take even the owner's
 * bits from it (umask(2)): then whoever opens it later could not, so that those are set again.
 * @param flags of open(2), besides those that make it
 * @throws what open(2) says, also of a name that is taken, if only by a symlink; what fchmod(2) says: there is no file then.
 */
export function createForOwner(path: string, flags: number): number {
  const fd = fs.openSync(path, flags | fs.constants.O_CREAT | fs.constants.O_EXCL, FILE_MODE);
  try {
    if ((fs.fstatSync(fd).mode & FILE_MODE) !== FILE_MODE) fs.fchmodSync(fd, FILE_MODE);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    fs.unlinkSync(path);
    throw error;
  }
}

/** As `createForOwner`, a file that is read and written, and is gone with its last descriptor; `prefix` is seen in /proc/PID/fd. */
export function createWithoutName(folder: string, prefix: string): number {
  const file = path.join(folder, `${prefix}${randomBytes(8).toString('hex')}`);
  const fd = createForOwner(file, fs.constants.O_RDWR);
  try {
    fs.unlinkSync(file);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** As `createForOwner`, a folder whose name begins with `prefix`. @throws what mkdtemp(3) and chmod(2) say. */
export function createFolderForOwner(prefix: string): string {
  const folder = fs.mkdtempSync(prefix);
  try {
    if ((fs.statSync(folder).mode & FOLDER_MODE) !== FOLDER_MODE) fs.chmodSync(folder, FOLDER_MODE);
    return folder;
  } catch (error) {
    fs.rmdirSync(folder);
    throw error;
  }
}
