/** `-o NAME,NAME=VALUE,…`: the options of mount(8) and of FUSE file systems, and all that `qcow2fs mount` has besides. */

import { ON_MISSING, type OnMissing, TRANSPORT_CHOICES, type TransportChoice } from '../daemon/mount-options.ts';
import { Qcow2fsError } from '../errors.ts';
import type { MountFlags } from './mount-flags.ts';

/** What a name stands for: flags that it sets, or a value of them that it needs. */
type Row = { readonly flags: MountFlags } | { readonly toFlags: (value: string, before: MountFlags) => MountFlags };

const MIN_READ_BYTES = 4096;
/** The last one stands for "no user" in chown(2). */
const MAX_ID = 0xffff_fffe;

/** `flag` as it is, for each name. */
function allOf(names: readonly string[], toFlags: (name: string) => MountFlags): [string, Row][] {
  return names.map((name) => [name, { flags: toFlags(name) }]);
}

const ROWS = new Map<string, Row>([
  // mount(8) passes `rw` by default and mount.fuse3 `suid` and `dev`, so they cannot be refused; as squashfs, which cannot
  // be written either, the mount is read-only all the same. Nothing in it is a device or has a set-user-ID bit.
  ...allOf(['ro', 'rw', 'nosuid', 'suid', 'nodev', 'dev'], () => ({})),
  // When and by whom it is mounted: for mount(8), fstab(5) and systemd.mount(5).
  ...allOf(['defaults', 'auto', 'noauto', 'nofail', '_netdev'], () => ({})),
  ...allOf(['user', 'nouser', 'users', 'nousers', 'owner', 'noowner', 'group', 'nogroup'], () => ({})),
  // A mount never outlives its daemon here, asked for or not.
  ...allOf(['auto_unmount'], () => ({})),
  // About writing and access times, of which there are none.
  ...allOf(['async', 'sync', 'dirsync', 'mand', 'nomand', 'iversion', 'noiversion', 'silent', 'loud'], () => ({})),
  ...allOf(['atime', 'diratime', 'nodiratime', 'relatime', 'norelatime', 'strictatime', 'nostrictatime'], () => ({})),
  ...allOf(['lazytime', 'nolazytime'], () => ({})),
  ['allow_other', { flags: { allowOther: true } }],
  ['nonempty', { flags: { nonEmpty: true } }],
  ['uid', { toFlags: (value) => ({ uid: toId('uid', value) }) }],
  ['gid', { toFlags: (value) => ({ gid: toId('gid', value) }) }],
  ['umask', { toFlags: (value) => ({ umask: toUmask(value) }) }],
  ['max_read', { toFlags: (value) => ({ maxRead: toMaxRead(value) }) }],
  ['fsname', { toFlags: (fsname) => ({ fsname }) }],
  ['subtype', { toFlags: requireSubtype }],
  // The long options of `qcow2fs mount`, under their names.
  ['foreground', { flags: { foreground: true } }],
  ['direct-io', { flags: { directIo: true } }],
  ['direct_io', { flags: { directIo: true } }],
  ['transport', { toFlags: (value) => ({ transport: toTransport(value) }) }],
  ['no-backing', { flags: { backing: false } }],
  ['backing', { toFlags: (backing) => ({ backing }) }],
  ['data-file', { toFlags: (dataFile) => ({ dataFile }) }],
  ['on-missing', { toFlags: (value) => ({ onMissing: toOnMissing(value) }) }],
  ['live-current', { flags: { liveCurrent: true } }],
  ['log-file', { toFlags: (logFile) => ({ logFile }) }],
  ['allow-path', { toFlags: (folder, { allowPath = [] }) => ({ allowPath: [...allowPath, folder] }) }],
  ['passphrase-file', { toFlags: (file, { passphraseFile = [] }) => ({ passphraseFile: [...passphraseFile, file] }) }],
]);

/** What the kernel does for every file system; the mount gets them as they are. */
const KERNEL_FLAGS = new Set(['default_permissions', 'noexec', 'exec', 'noatime', 'nosymfollow', 'symfollow']);

/** Names with meaning to other programs only; `user=NAME` is what mount(8) makes of `user`. */
const COMMENT = /^([xX]-|comment=|user=)/;

/**
 * The flags with what the lists of their `options` say besides; what is said last wins.
 * @throws Qcow2fsError USAGE for an option that is not known or has no value that can be used.
 */
export function applyOptionLists(flags: MountFlags): MountFlags {
  let result = flags;
  for (const option of (flags.options ?? []).flatMap(splitOptionList))
    result = { ...result, ...toFlags(option, result) };
  return result;
}

/**
 * Splits at commas. As in every FUSE file system (libfuse, fuse_opt.c) a backslash and three octal digits are a byte, and
 * any other character behind a backslash is just that character.
 */
export function splitOptionList(list: string): string[] {
  const options = [''];
  for (const [piece] of Buffer.from(list)
    .toString('latin1')
    .matchAll(/\\[0-3][0-7]{2}|\\.|./gs)) {
    if (piece === ',') options.push('');
    else options[options.length - 1] += piece.length === 1 ? piece : unescapePiece(piece.slice(1));
  }
  return options.filter((option) => option !== '').map((option) => Buffer.from(option, 'latin1').toString());
}

function unescapePiece(escaped: string): string {
  return escaped.length === 3 ? String.fromCharCode(Number.parseInt(escaped, 8)) : escaped;
}

function toFlags(option: string, before: MountFlags): MountFlags {
  if (COMMENT.test(option)) return {};
  const equals = option.indexOf('=');
  const name = equals < 0 ? option : option.slice(0, equals);
  const value = equals < 0 ? undefined : option.slice(equals + 1);
  const row = KERNEL_FLAGS.has(name)
    ? { flags: { kernelFlags: [...(before.kernelFlags ?? []), name] } }
    : ROWS.get(name);
  if (row === undefined) throw wrong(name, 'there is no such option');
  if ('flags' in row) {
    if (value !== undefined) throw wrong(option, `it takes no value, only ${name}`);
    return row.flags;
  }
  if (value === undefined || value === '') throw wrong(option, `it needs a value: ${name}=VALUE`);
  return row.toFlags(value, before);
}

function toId(name: 'uid' | 'gid', value: string): number {
  const id = Number(value);
  if (/^\d+$/.test(value) && id <= MAX_ID) return id;
  const remedy = name === 'uid' ? '`id -u NAME` prints that of a user' : '`getent group NAME` prints that of a group';
  throw wrong(`${name}=${value}`, `it needs a number; ${remedy}`);
}

function toUmask(value: string): number {
  if (/^[0-7]{1,4}$/.test(value) && Number.parseInt(value, 8) <= 0o777) return Number.parseInt(value, 8);
  throw wrong(`umask=${value}`, 'it needs an octal number up to 777, such as 077');
}

function toMaxRead(value: string): number {
  if (/^\d+$/.test(value) && Number(value) >= MIN_READ_BYTES) return Number(value);
  throw wrong(`max_read=${value}`, `it needs a number of bytes, at least ${MIN_READ_BYTES}`);
}

function toOnMissing(value: string): OnMissing {
  const found = ON_MISSING.find((word) => word === value);
  if (found !== undefined) return found;
  throw wrong(`on-missing=${value}`, `it is one of ${ON_MISSING.join(', ')}`);
}

function toTransport(value: string): TransportChoice {
  const transport = TRANSPORT_CHOICES.find((choice) => choice === value);
  if (transport !== undefined) return transport;
  throw wrong(`transport=${value}`, `it is one of ${TRANSPORT_CHOICES.join(', ')}`);
}

function requireSubtype(value: string): MountFlags {
  if (value === 'qcow2fs') return {};
  throw wrong(`subtype=${value}`, 'the type of a mount is always fuse.qcow2fs, by which `qcow2fs umount` knows it');
}

function wrong(option: string, reason: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `-o ${option}: ${reason}`, { data: { option } });
}
