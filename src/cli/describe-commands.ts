/** `qcow2fs info`: what the image file says. */

import { toJsonPieces } from '../common/json-pieces.ts';
import { warn } from '../common/logging.ts';
import type { EncryptionDescription } from '../open-image/describe-encryption.ts';
import { type BitmapDescription, describeInfo, type ImageInfo } from '../open-image/describe-image.ts';
import { type ChainOptions, closeLayers } from '../open-image/layers.ts';
import { openImageChain } from '../open-image/open-image.ts';
import { formatRows, formatSize, toPrintable } from './format.ts';
import { writePieces } from './write-pieces.ts';

export interface DescribeOptions {
  readonly json?: boolean;
}

export async function infoCommand(imagePath: string, { json }: DescribeOptions, chain: ChainOptions): Promise<void> {
  const info = describeChain(imagePath, chain);
  await writePieces(process.stdout, json ? toJsonLines(info) : toInfoLines(info));
  for (const problem of info.problems) warn(`warning: ${toPrintable(problem)}`);
}

function describeChain(imagePath: string, chain: ChainOptions): ImageInfo {
  const image = openImageChain(imagePath, chain);
  try {
    return describeInfo(image);
  } finally {
    closeLayers(image.layers);
  }
}

export function* toJsonLines(description: object): Iterable<string> {
  yield* toJsonPieces(description);
  yield '\n';
}

function toInfoLines(info: ImageInfo): Iterable<string> {
  const rows: [string, string][] = [
    ['image', info.image],
    ['format', `qcow2 version ${info.version}`],
    ['virtual size', exactSize(info.current.virtualSizeBytes)],
    ['file size', `${exactSize(info.fileSizeBytes)}, ${formatSize(info.allocatedFileBytes)} allocated`],
    ['cluster size', exactSize(info.clusterSizeBytes)],
    ['refcount width', `${info.refcountBits} bits`],
    ['compression', info.compressionType],
    ['extended L2', yesNo(info.extendedL2)],
    ['lazy refcounts', yesNo(info.lazyRefcounts)],
    ['dirty', info.dirty ? 'yes: a writer was not shut down cleanly, refcounts may be out of date' : 'no'],
    ['corrupt', info.corrupt ? 'yes: QEMU found damage and marked it' : 'no'],
    ...encryptionRows(info.encryption),
    ...(info.dataFile === null
      ? []
      : [['data file', `${info.dataFile}${info.dataFileRaw ? ' (raw)' : ''}`] as [string, string]]),
    ['snapshots', String(info.snapshots.length)],
    ...info.chain
      .slice(1)
      .map(({ file, format, virtualSizeBytes, encryption }, index): [string, string] => [
        `backing file ${index + 1}`,
        `${file} (${format}, ${formatSize(virtualSizeBytes)}${encryption === null ? '' : ', encrypted'})`,
      ]),
  ];
  if (info.backingFile !== null && info.chain.length === 1)
    rows.push(['backing file', `${info.backingFile} (not opened)`]);
  for (const bitmap of info.bitmaps) rows.push(['bitmap', describeBitmap(bitmap)]);
  for (const note of info.notes) rows.push(['note', note]);
  if (info.unsupportedFeatures.length > 0)
    rows.push(['cannot be mounted', `it uses ${info.unsupportedFeatures.join(', ')}`]);
  return formatRows(rows.map(([name, value]) => [`${name}:`, toPrintable(value)]));
}

function describeBitmap({ name, granularityBytes, flags, consistent }: BitmapDescription): string {
  const about = [`granularity ${formatSize(granularityBytes)}`, ...flags, ...(consistent ? [] : ['inconsistent'])];
  return `${name} (${about.join(', ')})`;
}

function encryptionRows(encryption: EncryptionDescription | null): [string, string][] {
  if (encryption === null) return [['encryption', 'no']];
  const { format, cipher, keyBits, hash, keySlots } = encryption;
  if (cipher === null) return [['encryption', format]];
  const rows: [string, string][] = [['encryption', `${format}, ${cipher}, key of ${keyBits} bits`]];
  if (hash === null || keySlots === null) return rows;
  return [
    ...rows,
    ['key hash', hash],
    ['key slots in use', `${keySlots.used.join(', ') || 'none'} of 0 to ${keySlots.count - 1}`],
  ];
}

function exactSize(bytes: number): string {
  return `${formatSize(bytes)} (${bytes} bytes)`;
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
