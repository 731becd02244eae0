/** Which features keep an image from being read. */

import { Qcow2fsError } from '../errors.ts';
import { unsupportedEncryption } from './encryption.ts';
import type { Qcow2Metadata } from './open-qcow2.ts';
import {
  QCOW2_INCOMPAT_COMPRESSION,
  QCOW2_INCOMPAT_CORRUPT,
  QCOW2_INCOMPAT_DATA_FILE,
  QCOW2_INCOMPAT_DIRTY,
  QCOW2_INCOMPAT_EXTL2,
} from './wire/header.ts';

/** Dirty and corrupt only concern writers: refcounts may be wrong, the mapping is not (QEMU reads both). */
const READABLE_FEATURES =
  QCOW2_INCOMPAT_DIRTY |
  QCOW2_INCOMPAT_CORRUPT |
  QCOW2_INCOMPAT_DATA_FILE |
  QCOW2_INCOMPAT_COMPRESSION |
  QCOW2_INCOMPAT_EXTL2;

/** The names of all features of the image that this reader lacks; empty if it can be read. */
export function unsupportedFeatures(file: Qcow2Metadata): string[] {
  const { incompatibleFeatures } = file.header;
  const names: string[] = [];
  const encryption = unsupportedEncryption(file.encryption);
  if (encryption !== undefined) names.push(encryption);
  const unknown = incompatibleFeatures & ~READABLE_FEATURES;
  for (let bit = 0; bit < 64; bit++) {
    if ((unknown & (1n << BigInt(bit))) !== 0n) names.push(incompatibleFeatureName(file, bit));
  }
  return names;
}

/**
 * Refuses an image with a feature that this reader lacks.
 * @throws Qcow2fsError UNSUPPORTED, naming each feature (by the image's feature name table for unknown bits).
 */
export function refuseUnsupportedFeatures(path: string, file: Qcow2Metadata): void {
  const names = unsupportedFeatures(file);
  if (names.length === 0) return;
  throw new Qcow2fsError('UNSUPPORTED', `${path} uses ${names.join(', ')}, which this version of qcow2fs cannot read`, {
    data: { file: path, features: names.join(', ') },
  });
}

/** How an incompatible feature bit is called: by the image's own table, else by its number. */
function incompatibleFeatureName(file: Qcow2Metadata, bit: number): string {
  const row = file.featureNames.find((name) => name.kind === 'incompatible' && name.bit === bit);
  const label = row === undefined || row.name === '' ? '' : ` "${row.name}"`;
  return `the incompatible feature${label} (bit ${bit})`;
}
