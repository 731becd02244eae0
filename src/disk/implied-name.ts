/** What the name of a backing file means: a plain name, `file:NAME`, or a `json:` object that comes down to a local file. */

import { decodeName } from '../common/names.ts';
import { Qcow2fsError } from '../errors.ts';

/** Drivers of QEMU that give the bytes of a file as they are. */
const FILE_DRIVERS = ['file', 'host_device'] as const;
export type FileDriver = (typeof FILE_DRIVERS)[number];

/** The other drivers without a format: they give bytes from elsewhere as they are (BlockdevDriver of qapi/block-core.json). */
const PROTOCOL_DRIVERS =
  'ftp ftps gluster host_cdrom http https io_uring iscsi nbd nfs null-aio null-co nvme nvme-io_uring rbd ssh vvfat ' +
  'virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa';

/** Options of raw and qcow2 that say which bytes are read of a file, or of which other files. */
const CONTENT_OPTIONS = ['offset', 'size', 'backing', 'data-file'];

export interface ImpliedName {
  /** As in the name: may be relative. */
  readonly path: string;
  /** What reads it: a format, or a file driver; undefined if nothing says it. */
  readonly driver: string | undefined;
  /** What kind of file it must be, if anything says it: `file` is a regular one, `host_device` a device. */
  readonly fileDriver: FileDriver | undefined;
}

/** Options that have no part in which bytes are read: of every driver, of those of files, and of qcow2. */
const NODE_OPTIONS = [
  ...['read-only', 'auto-read-only', 'discard', 'detect-zeroes', 'force-share', 'node-name'],
  ...['cache', 'cache.direct', 'cache.no-flush'],
];
const FILE_OPTIONS = [...NODE_OPTIONS, 'locking', 'aio'];
const QCOW2_OPTIONS = ['lazy-refcounts', 'cache-size', 'l2-cache-size'];

/**
 * @param imagePath names the image in errors
 * @param name one character per byte (latin1)
 * @param statedFormat what the image says besides the name. It beats the driver in a `json:` name (bdrv_open_backing_file,
 * parse_json_protocol: "Options given in the filename have lower priority").
 * @throws Qcow2fsError UNSUPPORTED, naming the protocol, driver or option; DAMAGED for a name that cannot be one.
 */
export function decodeImpliedName(imagePath: string, name: string, statedFormat: string | undefined): ImpliedName {
  const { text, isExact } = decodeName(name);
  if (text.includes('\0')) throw refuse('DAMAGED', imagePath, text.replaceAll('\0', '\\0'), 'it has a NUL byte in it');
  if (!isExact) throw refuse('UNSUPPORTED', imagePath, text, 'it is not UTF-8');
  if (text.startsWith('json:')) return fromJson(imagePath, text, statedFormat);
  const plain = { driver: statedFormat, fileDriver: isFileDriver(statedFormat) ? statedFormat : undefined };
  if (text.startsWith('file:')) return { ...plain, path: text.slice('file:'.length) };
  // path_has_protocol of QEMU: a colon before the first slash.
  const protocol = /^[^/:]*:/.exec(text)?.[0];
  if (protocol !== undefined) throw refuse('UNSUPPORTED', imagePath, text, `${protocol} is not supported`);
  return { ...plain, path: text };
}

/**
 * What reads another file in place of the one that is named: what the image says, wherever the name leads. undefined if nothing
 * says it.
 * @param name, statedFormat as in `decodeImpliedName`
 * @throws Qcow2fsError UNSUPPORTED for a `json:` name that says what cannot be said of another file here, or cannot be understood:
 * QEMU may understand it.
 */
export function driverInPlaceOf(imagePath: string, name: string, statedFormat: string | undefined): string | undefined {
  const text = decodeName(name).text.replaceAll('\0', '\\0');
  if (!text.startsWith('json:')) return statedFormat;
  const options = readOptions(text);
  const fail = (reason: string): never => {
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${imagePath}: no other file can take the place of its backing file "${text}": ${reason}; name the file itself: ` +
        `qemu-img rebase -u -b FILE -F FORMAT ${imagePath}`,
      { data: { file: imagePath, backingFile: text } },
    );
  };
  if (typeof options === 'string') return fail(options);
  const own = options.get('driver');
  if (own !== undefined && typeof own !== 'string') return fail('its driver is no text');
  const driver = statedFormat ?? own;
  if (isFileDriver(driver) || isProtocolDriver(driver)) return driver;
  const content = [...options.keys()].find((key) => CONTENT_OPTIONS.includes(key.split('.')[0] ?? ''));
  if (content !== undefined) return fail(`it has the option "${content}"`);
  if (isFileDriver(own) || isProtocolDriver(own)) return driver;
  // Another format below, or a node by its name: the file is of whatever that is.
  const below = options.get('file.driver') ?? options.get('file');
  if (below !== undefined && !isFileDriver(below) && !isProtocolDriver(below))
    return fail(`it has ${toText(below)} below`);
  if (driver !== undefined && driver !== 'qcow2' && driver !== 'raw')
    return fail(`the driver "${driver}" is not supported`);
  return driver;
}

/** True for a driver that gives the bytes of something else than a file as they are. */
export function isProtocolDriver(value: unknown): value is string {
  return typeof value === 'string' && PROTOCOL_DRIVERS.split(' ').includes(value);
}

export function isFileDriver(value: unknown): value is FileDriver {
  return FILE_DRIVERS.some((driver) => driver === value);
}

function fromJson(imagePath: string, text: string, statedFormat: string | undefined): ImpliedName {
  const options = readOptions(text);
  if (typeof options === 'string') throw refuse('DAMAGED', imagePath, text, options);
  return fromOptions(imagePath, text, options, statedFormat);
}

type Options = Map<string, unknown>;

/** Returns what is wrong with the text if it cannot be read. */
function readOptions(text: string): Options | string {
  const json = text.slice('json:'.length);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return 'it is not valid JSON';
  }
  const options: Options = new Map();
  const twice = flatten(value, '', options);
  if (twice !== undefined) return `it gives the option "${twice}" twice`;
  return countKeys(value) === countColons(json) ? options : 'it gives an option twice';
}

/**
 * `{"file": {"filename": "x"}}` and `{"file.filename": "x"}` are the same to QEMU. Returns an option that is given in both
 * ways: which of them counts in QEMU (qdict_flatten) depends on the order of its hash table.
 */
function flatten(value: unknown, prefix: string, into: Options): string | undefined {
  const entries = isObject(value) ? Object.entries(value) : [];
  if (entries.length === 0) {
    if (into.has(prefix)) return prefix;
    into.set(prefix, value);
  }
  for (const [key, inner] of entries) {
    const twice = flatten(inner, prefix === '' ? key : `${prefix}.${key}`, into);
    if (twice !== undefined) return twice;
  }
  return undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** JSON.parse takes the last of two equal keys, QEMU (json-parser.c: parse_pair) neither: then there are more colons than keys. */
function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce<number>((sum, inner) => sum + countKeys(inner), own);
}

/** Those of valid JSON outside of its strings. */
function countColons(json: string): number {
  return json.replace(/"(?:[^"\\]|\\.)*"/g, '').split(':').length - 1;
}

function fromOptions(imagePath: string, text: string, options: Options, statedFormat: string | undefined): ImpliedName {
  const own = options.get('driver');
  const driver = statedFormat ?? own;
  const fail = (what: string): never => {
    const isReadable = own === undefined || own === 'qcow2' || own === 'raw' || isFileDriver(own);
    const reason = isReadable ? what : `the driver "${toText(own)}" is not supported`;
    throw refuse('UNSUPPORTED', imagePath, text, reason);
  };
  if (driver !== undefined && typeof driver !== 'string') return fail('its driver is no text');
  // A format has the file below it; a file driver is the file itself.
  const inner = isFileDriver(driver) ? '' : 'file.';
  const known = knownOptions(driver, inner);
  let fileDriver = isFileDriver(driver) ? driver : undefined;
  for (const [key, value] of options) {
    if (key === `${inner}driver` && inner !== '' && isFileDriver(value)) fileDriver = value;
    else if (key === 'filename' && inner !== '') fail('its driver looks for the "filename" in a "file"');
    else if (!known.includes(key)) {
      fail(`${key.endsWith('driver') ? `the driver "${toText(value)}"` : `the option "${key}"`} is not supported`);
    }
  }
  const path = options.get(`${inner}filename`);
  if (typeof path !== 'string') return fail('it names no local file');
  // QEMU refuses both (json-parser.c: parse_string), and no path has them.
  if (path.includes('\0') || /\p{Surrogate}/u.test(path)) return fail('its file name is no valid one');
  return { path, driver, fileDriver };
}

function knownOptions(driver: string | undefined, inner: '' | 'file.'): string[] {
  if (inner === '') return ['driver', 'filename', ...FILE_OPTIONS];
  const ofFormat = driver === 'qcow2' || driver === undefined ? QCOW2_OPTIONS : [];
  const ofFile = ['filename', ...FILE_OPTIONS].map((key) => `${inner}${key}`);
  return ['driver', ...NODE_OPTIONS, ...ofFormat, ...ofFile];
}

/** Not String(): an object in an array may have a `toString` that is no function. */
function toText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function refuse(code: 'UNSUPPORTED' | 'DAMAGED', imagePath: string, text: string, reason: string): Qcow2fsError {
  return new Qcow2fsError(code, `${imagePath}: its backing file "${text}" cannot be opened: ${reason}`, {
    data: { file: imagePath, backingFile: text },
  });
}
