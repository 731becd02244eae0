/** What every step of a check needs to know of the image. */

import { Qcow2fsError } from '../../errors.ts';
import { SECTOR_BYTES } from '../limits.ts';
import type { Qcow2File } from '../open-qcow2.ts';
import {
  QCOW2_INCOMPAT_COMPRESSION,
  QCOW2_INCOMPAT_CORRUPT,
  QCOW2_INCOMPAT_DATA_FILE,
  QCOW2_INCOMPAT_DIRTY,
  QCOW2_INCOMPAT_EXTL2,
} from '../wire/header.ts';
import { WorkBudget } from '../work-budget.ts';
import { ProblemLog } from './problem-log.ts';

export interface CheckedImage {
  readonly file: Qcow2File;
  readonly log: ProblemLog;
  readonly budget: WorkBudget;
  readonly clusterBytes: number;
  /** Clusters of the file; the last one may be a part of one. */
  readonly clusterCount: number;
  readonly hasDataFile: boolean;
}

/** Features that leave the tables where this check looks for them. */
const KNOWN_FEATURES =
  QCOW2_INCOMPAT_DIRTY |
  QCOW2_INCOMPAT_CORRUPT |
  QCOW2_INCOMPAT_DATA_FILE |
  QCOW2_INCOMPAT_COMPRESSION |
  QCOW2_INCOMPAT_EXTL2;

/** QEMU's limit (qcow2_check_refcounts: INT_MAX); it also bounds what is kept per window. */
const MAX_CLUSTER_COUNT = 2 ** 31 - 1;

/**
 * `storedBytes` is what the file takes on its disk.
 * @throws Qcow2fsError UNSUPPORTED or DAMAGED if the image cannot be checked at all.
 */
export function toCheckedImage(file: Qcow2File, storedBytes: number): CheckedImage {
  const { header, storage, clusterBytes } = file;
  const data = { file: storage.name };
  const unknown = header.incompatibleFeatures & ~KNOWN_FEATURES;
  if (unknown !== 0n) {
    const bits = `0x${unknown.toString(16)}`;
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${storage.name} cannot be checked: it uses unknown incompatible features (${bits})`,
      { data: { ...data, features: bits } },
    );
  }
  if (header.refcountTableOffset % clusterBytes !== 0) {
    throw new Qcow2fsError(
      'DAMAGED',
      `${storage.name} cannot be checked: header field refcount_table_offset is ${header.refcountTableOffset}, ` +
        'which is not cluster aligned',
      { data: { ...data, field: 'refcount_table_offset' } },
    );
  }
  const clusterCount = Math.ceil(storage.sizeBytes / clusterBytes);
  if (clusterCount > MAX_CLUSTER_COUNT) {
    throw new Qcow2fsError('UNSUPPORTED', `${storage.name} cannot be checked: it has ${clusterCount} clusters`, {
      data: { ...data, clusterCount },
    });
  }
  const budget = new WorkBudget(storedBytes);
  return {
    file,
    log: new ProblemLog(budget),
    budget,
    clusterBytes,
    clusterCount,
    hasDataFile: (header.incompatibleFeatures & QCOW2_INCOMPAT_DATA_FILE) !== 0n,
  };
}

/**
 * A range may end in the cluster behind the last one, as the file may end before what was never written; further than that
 * is an error, as in QEMU, which counts the file in whole sectors.
 */
export function isWithinFile({ clusterBytes, file }: CheckedImage, offset: number, lengthBytes: number): boolean {
  return offset + lengthBytes - Math.ceil(file.storage.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES < clusterBytes;
}
