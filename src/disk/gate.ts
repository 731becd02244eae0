/**
 * The gate that every file an image implies must pass. An image may name any file of the host, and whoever mounts it may
 * be root: so it only gets what lies beside it, or where the user says so.
 */

import fs from 'node:fs';
import path from 'node:path';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { leadsInto } from './leads-into.ts';

export interface Gate {
  /** Whose files may be opened, in them but not below. */
  readonly ownFolders: readonly string[];
  /** Where files may be opened, also further below. */
  readonly allowedFolders: readonly string[];
  /** What not even may be looked at: the mount that this process serves. */
  readonly forbiddenFolder: string | undefined;
}

/**
 * The gate of the image that the user named. Its own folder is that of its name, and that of the file behind a symlink.
 * @throws Qcow2fsError IO for a folder that cannot be resolved.
 */
export function createGate(imagePath: string, allowedFolders: readonly string[], forbiddenFolder?: string): Gate {
  // An image that was moved while it is open has only the folder of its name.
  const behindSymlink = fs.existsSync(imagePath) ? [path.dirname(resolve(imagePath))] : [];
  return {
    ownFolders: [resolve(path.dirname(imagePath)), ...behindSymlink],
    allowedFolders: allowedFolders.filter((folder) => !isForbidden(folder, forbiddenFolder)).map(resolve),
    forbiddenFolder,
  };
}

/**
 * Where `name`, as the image `imagePath` has it, starts: a relative one at the folder of the image's name as it was given.
 * Symlinks are not resolved, as in QEMU (path_combine); not path.resolve, which would drop `..` behind a symlink.
 */
export function impliedPath(imagePath: string, name: string): string {
  return name.startsWith('/') ? name : `${path.dirname(imagePath)}/${name}`;
}

/**
 * The path without symlinks of a file that may be opened.
 * @throws Qcow2fsError REFUSED, with the option that would allow it; NOT_FOUND, IO.
 */
export function passGate(gate: Gate, imagePath: string, implied: string, what: string): string {
  if (isForbidden(implied, gate.forbiddenFolder)) {
    throw new Qcow2fsError('REFUSED', `${imagePath}: its ${what} ${implied} leads into its own mount`, {
      data: { file: imagePath, implied },
    });
  }
  const real = resolve(implied);
  const folder = path.dirname(real);
  if (gate.ownFolders.includes(folder)) return real;
  if (gate.allowedFolders.some((allowed) => `${folder}/`.startsWith(allowed === '/' ? '/' : `${allowed}/`)))
    return real;
  throw new Qcow2fsError(
    'REFUSED',
    `${imagePath}: its ${what} ${real} is not in the image's folder, and a strange image may name any file; ` +
      `if it is what you expect, use --allow-path ${folder}`,
    { data: { file: imagePath, implied: real } },
  );
}

function isForbidden(name: string, forbiddenFolder: string | undefined): boolean {
  return forbiddenFolder !== undefined && leadsInto(forbiddenFolder, path.resolve(name));
}

function resolve(name: string): string {
  try {
    return fs.realpathSync.native(name);
  } catch (cause) {
    const data = { file: name };
    if (systemCodeOf(cause) === 'ENOENT') {
      throw new Qcow2fsError('NOT_FOUND', `${name}: no such file`, { data, cause });
    }
    throw new Qcow2fsError('IO', `${name}: cannot be opened: ${messageOf(cause)}`, { data, cause });
  }
}
