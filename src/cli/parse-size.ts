/** Sizes on the command line. */

import { Qcow2fsError } from '../errors.ts';

const UNITS = ['', 'K', 'M', 'G', 'T'];

/**
 * Bytes of `4096`, `512M`, `4G`: units are powers of 1024, as in QEMU's tools.
 * @throws Qcow2fsError USAGE, naming `option`.
 */
export function parseSize(text: string, option: string): number {
  const found = /^(\d+)([KMGT]?)$/i.exec(text);
  const bytes = Number(found?.[1]) * 1024 ** UNITS.indexOf((found?.[2] ?? '').toUpperCase());
  if (found !== null && bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new Qcow2fsError('USAGE', `${option} ${text}: it needs a size, such as 512M or 4G`, { data: { option } });
}
