/** Files that a command writes to must be different ones: the first line of a log would destroy a delta. */

import fs from 'node:fs';
import path from 'node:path';
import { Qcow2fsError } from '../errors.ts';
import { fileIdentity } from '../storage/file-storage.ts';

/**
 * Two names may be one file, by links and by mounts. What cannot be looked at has its name only: who opens it says why.
 * @param files by the option that names them; they need not be there
 * @throws Qcow2fsError USAGE.
 */
export function requireDifferentFiles(files: Readonly<Record<string, string | undefined>>): void {
  const seen = new Map<string, { readonly option: string; readonly file: string }>();
  for (const [option, name] of Object.entries(files)) {
    if (name === undefined) continue;
    const file = path.resolve(name);
    const identity = identityOf(name);
    const other = seen.get(identity);
    seen.set(identity, { option, file });
    if (other === undefined) continue;
    const what =
      other.file === file
        ? `${other.option} and ${option} are both ${file}`
        : `${other.option} ${other.file} and ${option} ${file} are one file`;
    throw new Qcow2fsError('USAGE', `${what}: name two files`, { data: { file } });
  }
}

function identityOf(name: string): string {
  try {
    const stat = fs.statSync(name, { throwIfNoEntry: false });
    return stat === undefined ? identityOfNew(name) : fileIdentity(stat);
  } catch {
    return path.resolve(name);
  }
}

/** By what it will be: a name in a folder. open(2) with O_CREAT makes the file to which a symlink leads. */
function identityOfNew(name: string): string {
  const folder = path.dirname(name);
  if (fs.lstatSync(name, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
    const target = fs.readlinkSync(name);
    // Not tidied up: `..` behind a symlink is the parent of its target.
    return identityOf(path.isAbsolute(target) ? target : `${folder}/${target}`);
  }
  return `${fileIdentity(fs.statSync(folder))}/${path.basename(name)}`;
}
