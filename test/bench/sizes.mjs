/** How much is measured, and how often. */

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;

/** @typedef {typeof FULL} Sizes */

export const FULL = {
  /** The plain image, which most is measured on. */
  plainBytes: GIB,
  /** Every other layout. */
  layoutBytes: 512 * MIB,
  sparseBytes: 64 * GIB,
  sparseDataBytes: GIB,
  fileCount: 20_000,
  meanFileBytes: 16 * 1024,
  snapshotCount: 7,
  manySnapshotsCount: 1000,
  manySnapshotsBytes: 16 * TIB,
  /** Rounds of what has a target and little spread, and of what takes long. */
  rounds: 5,
  fewRounds: 3,
  /** One round of random reads. */
  seconds: 1,
  /** A program that takes longer is ended, and not run again. A sequential fio is cut, and its rate taken. */
  limitSeconds: 15,
  sequentialLimitSeconds: 4,
};

/** Shows that everything works, not how fast. */
export const QUICK = {
  ...FULL,
  plainBytes: 32 * MIB,
  layoutBytes: 16 * MIB,
  sparseBytes: GIB,
  sparseDataBytes: 16 * MIB,
  fileCount: 200,
  manySnapshotsCount: 20,
  rounds: 1,
  fewRounds: 1,
  seconds: 0.2,
};
