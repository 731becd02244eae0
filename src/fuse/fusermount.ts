/** fusermount3 (package fuse3), the set-uid program through which ordinary users mount and unmount. */

import fs from 'node:fs';
import path from 'node:path';
import { Qcow2fsError, systemCodeOf } from '../errors.ts';

const NAME = 'fusermount3';
/** In this order behind what PATH has: usual, NixOS. */
const USUAL_PLACES = ['/usr/bin/fusermount3', '/run/wrappers/bin/fusermount3'];
/** That of libfuse 2 speaks the same protocol. */
const OLD_NAME = 'fusermount';

const CONFIGURATION = '/etc/fuse.conf';

/** What to do about an `allow_other` that is refused. */
export const NO_ALLOW_OTHER =
  `allow_other lets other users in, which only root may do unless ${CONFIGURATION} has the line \`user_allow_other\`: ` +
  'add it as root, or mount without allow_other';

/**
 * The path of the program.
 * @throws Qcow2fsError MOUNT, with how to install it.
 */
export function findFusermount(): string {
  const candidates = [...onPath(NAME), ...USUAL_PLACES, ...onPath(OLD_NAME)];
  const found = candidates.find(isExecutable);
  if (found !== undefined) return found;
  throw new Qcow2fsError(
    'MOUNT',
    `an ordinary user mounts and unmounts through ${NAME}, which is not installed: install it with ` +
      `\`apt install fuse3\`, or run as root`,
  );
}

/**
 * libfuse 2 looks for its own helper only.
 * @throws Qcow2fsError MOUNT.
 */
export function requireOldFusermount(): void {
  if (onPath(OLD_NAME).some(isExecutable)) return;
  throw new Qcow2fsError(
    'MOUNT',
    `for an ordinary user, fuse-native mounts through a program called ${OLD_NAME}, which is not in PATH: put a link of ` +
      `that name to ${NAME} there, or use \`--transport kernel\``,
  );
}

/** False if fusermount3 will refuse `allow_other` to an ordinary user (read_conf in util/fusermount.c of libfuse). */
export function isAllowOtherAllowed(): boolean {
  try {
    const lines = fs.readFileSync(CONFIGURATION, 'utf8').split('\n');
    return lines.some((line) => line.replace(/#.*/, '').trim() === 'user_allow_other');
  } catch (error) {
    // Who cannot read it cannot tell; fusermount3 can.
    return systemCodeOf(error) !== 'ENOENT';
  }
}

/** One value in a list of options: a comma would end it, and a backslash escapes. */
export function escapeOption(value: string): string {
  return value.replace(/[\\,]/g, '\\$&');
}

function onPath(name: string): string[] {
  const folders = (process.env.PATH ?? '').split(':').filter((folder) => path.isAbsolute(folder));
  return folders.map((folder) => path.join(folder, name));
}

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
