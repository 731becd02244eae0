/** Loads the npm package fuse-native, which brings libfuse 2.9 along. It is optional, and only loaded by who uses it. */

import { createRequire } from 'node:module';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { Callback, FuseNative, FuseNativeConstructor } from './fuse-native-types.ts';

/** dlfcn.h: the library stays loaded, although Node.js closes what turns out to be no addon. */
const RTLD_NODELETE = 0x1000;

/** @throws Qcow2fsError MOUNT, with how to get the package. */
export function loadFuseNative(): FuseNativeConstructor {
  try {
    const require = createRequire(import.meta.url);
    keepLibfuse(createRequire(require.resolve('fuse-native'))('fuse-shared-library') as { lib: string });
    return require('fuse-native') as FuseNativeConstructor;
  } catch (cause) {
    const [reason] = messageOf(cause).split('\n', 1);
    const folder = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
    throw new Qcow2fsError(
      'MOUNT',
      `the npm package fuse-native cannot be loaded (${reason}): install it with ` +
        `\`npm install --omit=dev --include=optional --ignore-scripts --prefix ${folder}\``,
      { cause },
    );
  }
}

/**
 * The addon wants a libfuse.so.2, and would only find that of a system package: its own is called otherwise. What is
 * loaded already under that name (its SONAME) counts as found.
 */
function keepLibfuse({ lib }: { readonly lib: string }): void {
  try {
    process.dlopen({ exports: {} }, lib, os.constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch {
    // Always: it is no addon of Node.js. If it could not be loaded, the addon says so.
  }
}

/**
 * Replaces two handlers of the package that return more bytes than there is room for: the size that a caller asked for is
 * not passed on to the operations of its interface, and what lies behind the buffer would be sent instead.
 * `values` tell an attribute and the list of names; undefined if there is none.
 */
export function guardExtendedAttributes(
  fuse: FuseNative,
  values: {
    get(path: string, name: string, reply: Callback<Buffer>): void;
    list(path: string, reply: Callback<Buffer>): void;
  },
): void {
  const replyInto =
    (target: Buffer, signal: (result: number, memory: ArrayBufferLike) => void): Callback<Buffer> =>
    (errno, value) => {
      if (errno < 0 || value === undefined) signal(errno, target.buffer);
      else if (target.length === 0) signal(value.length, target.buffer);
      else if (value.length > target.length) signal(-os.constants.errno.ERANGE, target.buffer);
      else signal(value.copy(target), target.buffer);
    };
  fuse._op_getxattr = (signal, path, name, target) => values.get(path, name, replyInto(target, signal));
  fuse._op_listxattr = (signal, path, target) => values.list(path, replyInto(target, signal));
}

/**
 * Replaces the handler of the package for the attributes of an open file: it drops the handle, and tells those of whatever
 * has the path now. What it tells them in is made by its handler for paths.
 */
export function guardOpenFileAttributes(fuse: FuseNative): void {
  fuse._op_fgetattr = (signal, path, handle) =>
    fuse._op_getattr.call({ ops: { getattr: (_, reply) => fuse.ops.fgetattr(path, handle, reply) } }, signal, path);
}
