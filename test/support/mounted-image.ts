/** Mounts images with the launcher that users start. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { sha256OfFile } from './hash.ts';
import { runCommand, tryCommand } from './run-command.ts';
import { withTemporaryFolder } from './temporary-folder.ts';

/** The launcher of this checkout. */
export const QCOW2FS = fileURLToPath(new URL('../../bin/qcow2fs', import.meta.url));

export interface MountOptions {
  /** Options of `qcow2fs mount`. */
  readonly options?: readonly string[];
}

/**
 * Mounts the image, runs `body` with the mount point, and unmounts, also when `body` fails. Throws when the image is not
 * the same afterwards, to the byte and to the nanosecond.
 */
export async function withMount<Result>(
  imagePath: string,
  body: (mountpoint: string) => Result | Promise<Result>,
  { options = [] }: MountOptions = {},
): Promise<Awaited<Result>> {
  return withMountBy(imagePath, (mountpoint) => ['mount', ...options, imagePath, mountpoint], body);
}

/** As `withMount`, with a scratch view of a state. */
export async function withScratch<Result>(
  imagePath: string,
  state: string,
  body: (mountpoint: string) => Result | Promise<Result>,
  { options = [] }: MountOptions = {},
): Promise<Awaited<Result>> {
  return withMountBy(imagePath, (mountpoint) => ['scratch', ...options, imagePath, state, mountpoint], body);
}

async function withMountBy<Result>(
  imagePath: string,
  toArguments: (mountpoint: string) => readonly string[],
  body: (mountpoint: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  const before = fingerprint(imagePath);
  const result = await withTemporaryFolder(async (folder) => {
    // Other users must get as far as the mount: what they meet there is its own matter.
    fs.chmodSync(folder, 0o755);
    const mountpoint = `${folder}/mnt`;
    fs.mkdirSync(mountpoint);
    runCommand(QCOW2FS, toArguments(mountpoint));
    return whileMounted(mountpoint, body);
  });
  const after = fingerprint(imagePath);
  if (after !== before) throw new Error(`${imagePath} was changed by its mount:\n${before}\n${after}`);
  return result;
}

async function whileMounted<Result>(
  mountpoint: string,
  body: (mountpoint: string) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  let result: Awaited<Result>;
  try {
    result = await body(mountpoint);
  } catch (error) {
    // Whatever failed in it counts, not that it may still be busy.
    if (tryCommand(QCOW2FS, ['umount', mountpoint]).status !== 0) tryCommand('umount', ['-l', mountpoint]);
    throw error;
  }
  try {
    runCommand(QCOW2FS, ['umount', mountpoint]);
  } catch (error) {
    tryCommand('umount', ['-l', mountpoint]);
    throw error;
  }
  return result;
}

function fingerprint(path: string): string {
  const { mtimeNs, size } = fs.statSync(path, { bigint: true });
  return `sha256 ${sha256OfFile(path)}, mtime ${mtimeNs} ns, ${size} bytes`;
}
