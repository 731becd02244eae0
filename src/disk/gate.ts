/** The gate that every file an image implies must pass: no name in an image opens anything but a local file. */

import path from 'node:path';
import { Qcow2fsError } from '../errors.ts';

/**
 * The path of the file that `imagePath` names as its backing file. A relative name starts at the folder of the image's
 * name as it was given: symlinks are not resolved, as in QEMU (path_combine). `name` has one character per byte.
 * @throws Qcow2fsError UNSUPPORTED for a name with a protocol (`nbd:`, `json:`, …) or one that is not UTF-8; DAMAGED for
 * one with a NUL byte.
 */
export function resolveImpliedPath(imagePath: string, name: string): string {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  const data = { file: imagePath, backingFile: text };
  if (name.includes('\0')) {
    throw new Qcow2fsError('DAMAGED', `${imagePath}: its backing file name has a NUL byte in it`, { data });
  }
  if (!Buffer.from(text, 'utf8').equals(bytes)) {
    throw new Qcow2fsError('UNSUPPORTED', `${imagePath}: its backing file name "${text}" is not UTF-8`, { data });
  }
  // path_has_protocol of QEMU: a colon before the first slash.
  const protocol = /^[^/:]*:/.exec(text)?.[0];
  if (protocol !== undefined) {
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${imagePath}: its backing file "${text}" is not a plain file name: ${protocol} is not supported`,
      { data },
    );
  }
  // Not path.resolve: it would drop `..` behind a symlink, where the kernel goes to the target's parent.
  return text.startsWith('/') ? text : `${path.dirname(imagePath)}/${text}`;
}
