/**
 * The gate that every file an image implies must pass. An image may name any file of the host, and whoever mounts it may
 * be root: so it only gets what lies beside it, or where the user says so. All folders and paths here are absolute and
 * without symlinks, with one character per byte (latin1), as two names that are no UTF-8 must not be taken for one.
 */

import path from 'node:path';
import { decodeName } from '../common/names.ts';
import { Qcow2fsError } from '../errors.ts';

export interface Gate {
  /** Whose files may be opened, in them but not below. */
  readonly ownFolders: readonly string[];
  /** Where files may be opened, also further below. */
  readonly allowedFolders: readonly string[];
}

/**
 * Where `name`, as the image `imagePath` has it, starts: a relative one at the folder of the image's name as it was given.
 * Symlinks are not resolved, as in QEMU (path_combine); not path.resolve, which would drop `..` behind a symlink.
 */
export function impliedPath(imagePath: string, name: string): string {
  return name.startsWith('/') ? name : `${path.dirname(imagePath)}/${name}`;
}

/**
 * Judges where a file is that `imagePath` implies.
 * @throws Qcow2fsError REFUSED, with the option that would allow it.
 */
export function passGate(gate: Gate, imagePath: string, realPath: string, what: string): void {
  const folder = path.dirname(realPath);
  if (gate.ownFolders.includes(folder)) return;
  if (gate.allowedFolders.some((allowed) => `${folder}/`.startsWith(allowed === '/' ? '/' : `${allowed}/`))) return;
  const implied = decodeName(realPath).text;
  throw new Qcow2fsError(
    'REFUSED',
    `${imagePath}: its ${what} ${implied} is not in the image's folder, and a strange image may name any file; ` +
      `if it is what you expect, use --allow-path ${decodeName(folder).text}`,
    { data: { file: imagePath, implied } },
  );
}
