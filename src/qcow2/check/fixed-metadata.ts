/** What the header refers to, and what lies at one place whatever the states are. */

import { readExtensions } from '../header-extensions.ts';
import { QCOW_CRYPT_LUKS } from '../wire/header.ts';
import { QCOW2_EXT_MAGIC_BITMAPS, QCOW2_EXT_MAGIC_CRYPTO_HEADER } from '../wire/header-extensions.ts';
import { type BitmapTables, countBitmaps, findBitmapTables } from './bitmap-tables.ts';
import type { CheckedImage } from './checked-image.ts';
import { findStateTables } from './l1-tables.ts';
import type { MetadataTables } from './metadata-tables.ts';
import { CLUSTER_USES, type ClusterUse, type ReferenceWindow } from './reference-window.ts';

interface MetadataRange {
  readonly offset: number;
  readonly bytes: number;
  readonly use: ClusterUse;
}

export interface FixedMetadata {
  readonly ranges: readonly MetadataRange[];
  readonly l1Tables: MetadataTables;
  readonly bitmaps: BitmapTables;
}

/** @throws Qcow2fsError IO. */
export function findFixedMetadata(image: CheckedImage): FixedMetadata {
  const { clusterBytes, file } = image;
  const { header } = file;
  const { byType } = readExtensions(file.storage, header, clusterBytes);
  const find = (type: number) => byType.get(type)?.data;
  const { l1Tables, snapshotTableBytes } = findStateTables(image);
  const range = (offset: number, bytes: number, use: ClusterUse) => ({ offset, bytes, use });
  return {
    ranges: [
      range(0, clusterBytes, CLUSTER_USES.header),
      range(header.snapshotsOffset, snapshotTableBytes, CLUSTER_USES.snapshotTable),
      range(header.refcountTableOffset, header.refcountTableClusters * clusterBytes, CLUSTER_USES.refcountTable),
      ...luksRange(header.cryptMethod, find(QCOW2_EXT_MAGIC_CRYPTO_HEADER)),
    ],
    l1Tables,
    bitmaps: findBitmapTables(image, find(QCOW2_EXT_MAGIC_BITMAPS)),
  };
}

/** @throws Qcow2fsError IO. */
export function countFixedMetadata(image: CheckedImage, metadata: FixedMetadata, window: ReferenceWindow): void {
  for (const { offset, bytes, use } of metadata.ranges) window.add(offset, bytes, 1, use);
  metadata.l1Tables.countClusters(window);
  countBitmaps(image, metadata.bitmaps, window);
}

/** The full disk encryption header pointer: offset and length, u64 each. */
function luksRange(cryptMethod: number, pointer: Buffer | undefined): MetadataRange[] {
  if (cryptMethod !== QCOW_CRYPT_LUKS || pointer === undefined || pointer.length < 16) return [];
  const bytes = Number(pointer.readBigUInt64BE(8));
  return [{ offset: Number(pointer.readBigUInt64BE(0)), bytes, use: CLUSTER_USES.other }];
}
