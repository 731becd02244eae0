/** What the name of a backing file means: a plain name, `file:NAME`, or a `json:` object that comes down to a local file. */

import { Qcow2fsError } from '../errors.ts';

export interface ImpliedName {
  /** As in the name: may be relative. */
  readonly path: string;
  /** The format, if the name says it. */
  readonly format: 'qcow2' | 'raw' | undefined;
}

const FILE_DRIVERS = ['file', 'host_device'];
/** Options of block drivers that have no part in which bytes are read. */
const HARMLESS_OPTIONS = [
  ...['read-only', 'auto-read-only', 'discard', 'detect-zeroes', 'force-share', 'locking', 'aio', 'node-name'],
  ...['cache', 'cache.direct', 'cache.no-flush', 'lazy-refcounts', 'cache-size', 'l2-cache-size'],
];

/**
 * @param imagePath names the image in errors
 * @param name one character per byte (latin1)
 * @throws Qcow2fsError UNSUPPORTED, naming the protocol, driver or option; DAMAGED for a name that cannot be one.
 */
export function decodeImpliedName(imagePath: string, name: string): ImpliedName {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  if (text.includes('\0')) throw refuse('DAMAGED', imagePath, text.replaceAll('\0', '\\0'), 'it has a NUL byte in it');
  if (!Buffer.from(text, 'utf8').equals(Buffer.from(name, 'latin1'))) {
    throw refuse('UNSUPPORTED', imagePath, text, 'it is not UTF-8');
  }
  if (text.startsWith('json:')) return fromJson(imagePath, text);
  if (text.startsWith('file:')) return { path: text.slice('file:'.length), format: undefined };
  // path_has_protocol of QEMU: a colon before the first slash.
  const protocol = /^[^/:]*:/.exec(text)?.[0];
  if (protocol !== undefined) throw refuse('UNSUPPORTED', imagePath, text, `${protocol} is not supported`);
  return { path: text, format: undefined };
}

function fromJson(imagePath: string, text: string): ImpliedName {
  let value: unknown;
  try {
    value = JSON.parse(text.slice('json:'.length));
  } catch {
    throw refuse('DAMAGED', imagePath, text, 'it is not valid JSON');
  }
  return fromOptions(imagePath, text, flatten(value, ''));
}

/** `{"file": {"filename": "x"}}` and `{"file.filename": "x"}` are the same to QEMU. */
function flatten(value: unknown, prefix: string): Map<string, unknown> {
  const flat = new Map<string, unknown>();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return flat.set(prefix, value);
  for (const [key, inner] of Object.entries(value)) {
    for (const [path, leaf] of flatten(inner, prefix === '' ? key : `${prefix}.${key}`)) flat.set(path, leaf);
  }
  return flat;
}

function fromOptions(imagePath: string, text: string, options: Map<string, unknown>): ImpliedName {
  const driver = options.get('driver');
  const isFormat = driver === 'qcow2' || driver === 'raw';
  if (driver !== undefined && !isFormat && !isFileDriver(driver)) {
    throw refuse('UNSUPPORTED', imagePath, text, `the driver "${toText(driver)}" is not supported`);
  }
  const inner = isFormat || options.has('file.filename') ? 'file.' : '';
  for (const [key, value] of options) {
    if (key === 'driver' || key === `${inner}filename`) continue;
    if (key === `${inner}driver` && isFileDriver(value)) continue;
    if (HARMLESS_OPTIONS.includes(key.replace(/^file\./, ''))) continue;
    const what = key.endsWith('driver') ? `the driver "${toText(value)}"` : `the option "${key}"`;
    throw refuse('UNSUPPORTED', imagePath, text, `${what} is not supported`);
  }
  const path = options.get(`${inner}filename`);
  if (typeof path !== 'string') throw refuse('UNSUPPORTED', imagePath, text, 'it names no local file');
  return { path, format: isFormat ? driver : undefined };
}

function isFileDriver(value: unknown): boolean {
  return typeof value === 'string' && FILE_DRIVERS.includes(value);
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
