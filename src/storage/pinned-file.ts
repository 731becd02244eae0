/**
 * Holds on to the file that a name leads to, without opening it. Whoever may write to a folder on the way can change at any moment
 * where the name leads, so that what was judged by its name need not be what is opened by it a moment later.
 */

import fs from 'node:fs';
import { notUtf8Hint } from '../common/names.ts';
import { Qcow2fsError, systemCodeOf, systemTextOf } from '../errors.ts';
import { fileIdentity } from './file-storage.ts';

export interface PinnedFile {
  /** Leads to the file itself, whatever has become of its name: for `openFile`, until `unpinFile`. */
  readonly openPath: string;
  readonly fd: number;
  readonly identity: string;
  /** Where the file is: absolute, without symlinks; one character per byte (latin1). */
  readonly realPath: string;
  /** The folder in which the last part of the name is, before a symlink there is followed; as `realPath`. */
  readonly nameFolder: string;
}

/** A file with every folder on the way to it, from the one that it is in up to the root. */
export interface PinnedWay {
  readonly file: PinnedFile;
  /** As the `fd` of the file. */
  readonly folderFds: readonly number[];
}

/**
 * O_PATH of include/uapi/asm-generic/fcntl.h, which Node.js does not name. Such an open calls nothing in a driver or a file
 * system (do_o_path in fs/namei.c), so that FIFOs and devices may be looked at.
 */
const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW } = fs.constants;

/** MAXSYMLINKS of the kernel (include/linux/namei.h). */
const MAX_SYMLINK_COUNT = 40;
/** PATH_MAX of the kernel (include/uapi/linux/limits.h); it also bounds how many folders are held at a time. */
const MAX_PATH_BYTES = 4096;

/** What says nothing of a name, but that this process cannot look now. */
const OWN_ERRORS = ['EMFILE', 'ENFILE', 'ENOMEM'];

/** A folder on the way, or the file at its end. */
interface Step {
  readonly name: string;
  readonly fd: number;
}

/**
 * Goes the way of `name` step by step, each from the descriptor of the one before, as realpath(3) does: the links of /proc, which
 * the kernel follows into other mount namespaces, are only text here. So the file is in this namespace, where `realPath` says.
 * @param forbiddenFolder absolute, without symlinks; it is not touched
 * @throws Qcow2fsError NOT_FOUND; REFUSED for what leads into `forbiddenFolder`; IO, also without /proc.
 */
export function pinFile(name: string, forbiddenFolder?: string): PinnedFile {
  const { file, folderFds } = pinWay(name, forbiddenFolder);
  for (const fd of folderFds) fs.closeSync(fd);
  return file;
}

export function unpinFile({ fd }: PinnedFile): void {
  fs.closeSync(fd);
}

/**
 * Which file the name leads to.
 * @throws Qcow2fsError as `pinFile`.
 */
export function pinnedIdentity(name: string): string {
  const file = pinFile(name);
  unpinFile(file);
  return file.identity;
}

/**
 * As `pinFile`, for `unpinWay`: the folders stay those that were passed, whatever becomes of their names.
 * @throws Qcow2fsError as `pinFile`.
 */
export function pinWay(name: string, forbiddenFolder?: string): PinnedWay {
  const steps: Step[] = [];
  try {
    steps.push({ name: '', fd: openStep('/', O_DIRECTORY) });
    requireProc(topOf(steps));
    const nameFolder = follow(name, steps, forbiddenFolder === undefined ? undefined : toBytes(forbiddenFolder));
    const realPath = pathOf(steps);
    const { fd } = topOf(steps);
    const identity = fileIdentity(fs.fstatSync(fd));
    const file = { openPath: linkOf(fd), fd, identity, realPath, nameFolder: nameFolder ?? realPath };
    return {
      file,
      folderFds: steps
        .slice(0, -1)
        .map((step) => step.fd)
        .reverse(),
    };
  } catch (cause) {
    for (const { fd } of steps) fs.closeSync(fd);
    throw cause instanceof Qcow2fsError ? cause : pinError(name, cause);
  }
}

export function unpinWay({ file, folderFds }: PinnedWay): void {
  for (const fd of [file.fd, ...folderFds]) fs.closeSync(fd);
}

/** Leaves in `steps` the way to the file. Gives the folder of the last part of `name`. */
function follow(name: string, steps: Step[], forbidden: string | undefined): string | undefined {
  const rest = toBytes(name.startsWith('/') ? name : `${process.cwd()}/${name}`)
    .split('/')
    .reverse();
  let symlinkCount = 0;
  let nameFolder: string | undefined;
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    if (next === '' || next === '.') continue;
    if (next === '..') {
      // Not `..` of the descriptor: a folder that was moved meanwhile has another one than its path says.
      if (steps.length > 1) closeStep(steps.pop());
      continue;
    }
    const folder = pathOf(steps);
    const here = `${folder === '/' ? '' : folder}/${next}`;
    if (here === forbidden) throw intoMount(name);
    if (here.length >= MAX_PATH_BYTES) throw nameError(name, 'ENAMETOOLONG', 'the path is too long');
    if (rest.length === 0) nameFolder ??= folder;
    const at = `${linkOf(topOf(steps).fd)}/${next}`;
    const step = enter(at, rest.length > 0);
    if (step.fd !== undefined) {
      steps.push({ name: next, fd: step.fd });
      continue;
    }
    const target = step.target ?? next;
    if (++symlinkCount > MAX_SYMLINK_COUNT) throw nameError(name, 'ELOOP', 'there are too many symlinks');
    if (target.startsWith('/')) while (steps.length > 1) closeStep(steps.pop());
    rest.push(...target.split('/').reverse());
  }
  return nameFolder;
}

/**
 * Where a symlink leads, or the file itself. Neither for a symlink that was replaced meanwhile: the name is to be looked at again.
 */
function enter(at: string, isFolder: boolean): { readonly fd?: number; readonly target?: string | undefined } {
  let fd: number;
  try {
    fd = openStep(at, O_NOFOLLOW | (isFolder ? O_DIRECTORY : 0));
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOTDIR') throw error;
    const target = readSymlink(at);
    if (target === undefined) throw error;
    return { target };
  }
  if (isFolder || !fs.fstatSync(fd).isSymbolicLink()) return { fd };
  fs.closeSync(fd);
  return { target: readSymlink(at) };
}

/** undefined for what is no symlink. */
function readSymlink(at: string): string | undefined {
  try {
    return fs.readlinkSync(Buffer.from(at, 'latin1'), 'latin1');
  } catch {
    return undefined;
  }
}

function openStep(at: string, flags: number): number {
  return fs.openSync(Buffer.from(at, 'latin1'), O_PATH | flags);
}

/** @throws Qcow2fsError IO if the descriptors of this process cannot be reached by name. */
function requireProc({ fd }: Step): void {
  if (readSymlink(linkOf(fd)) === '/') return;
  throw new Qcow2fsError(
    'IO',
    'there is no /proc of this process, without which files that an image names cannot be opened safely: mount -t proc proc /proc',
  );
}

function linkOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function pathOf(steps: readonly Step[]): string {
  return steps.length === 1 ? '/' : steps.map(({ name }) => name).join('/');
}

function topOf(steps: readonly Step[]): Step {
  const top = steps.at(-1);
  if (top === undefined) throw new Qcow2fsError('INTERNAL', 'a way without its root');
  return top;
}

function closeStep(step: Step | undefined): void {
  if (step !== undefined) fs.closeSync(step.fd);
}

/** True for errors of `pinFile` because of the name, and what lies on its way; false if this process cannot look. */
export function leadsNowhere(error: unknown): error is Qcow2fsError {
  if (!(error instanceof Qcow2fsError)) return false;
  if (error.code !== 'IO') return error.code === 'NOT_FOUND';
  const systemCode = systemCodeOf(error.cause);
  return systemCode !== undefined && !OWN_ERRORS.includes(systemCode);
}

/** As `leadsNowhere`, also true if the name leads where this process may not go: into the forbidden folder. */
export function isOutOfReach(error: unknown): error is Qcow2fsError {
  return leadsNowhere(error) || (error instanceof Qcow2fsError && error.code === 'REFUSED');
}

function toBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function intoMount(name: string): Qcow2fsError {
  return new Qcow2fsError('REFUSED', `${name} leads into its own mount`, { data: { file: name } });
}

function pinError(name: string, cause: unknown): Qcow2fsError {
  const data = { file: name };
  if (systemCodeOf(cause) === 'ENOENT') {
    return new Qcow2fsError('NOT_FOUND', `${name}: no such file${notUtf8Hint(name, 'make a symlink to it')}`, {
      data,
      cause,
    });
  }
  // The path in it is one of /proc.
  return new Qcow2fsError('IO', `${name}: cannot be opened: ${systemTextOf(cause)}`, { data, cause });
}

function nameError(name: string, code: string, what: string): Qcow2fsError {
  return pinError(name, Object.assign(new Error(what), { code }));
}
