/** Limits of QEMU 7.2 (block/qcow2.h), so that no field of an image can size an allocation or a loop. */

const MIB = 1024 * 1024;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** QCOW_EXTL2_SUBCLUSTERS_PER_CLUSTER. */
export const SUBCLUSTERS_PER_CLUSTER = 32;
/** A subcluster is at least one sector of 512 bytes. */
export const MIN_EXTL2_CLUSTER_BITS = 14;
/** QCOW_MAX_L1_SIZE, in bytes. */
export const MAX_L1_TABLE_BYTES = 32 * MIB;
/** QCOW_MAX_REFTABLE_SIZE, in bytes. */
export const MAX_REFCOUNT_TABLE_BYTES = 8 * MIB;
export const MAX_REFCOUNT_ORDER = 6;
/** QCOW_MAX_SNAPSHOTS. */
export const MAX_SNAPSHOT_COUNT = 65536;
/** QCOW_MAX_SNAPSHOTS_SIZE. */
export const MAX_SNAPSHOT_TABLE_BYTES = 64 * MIB;
/**
 * Of the ids and names of all snapshots. Unlike the others, this limit is not QEMU's, whose tables may hold 64 MiB of them,
 * but whose tools write no name of over 255 bytes: as JSON, each byte may take six, in each process that shows them.
 */
export const MAX_SNAPSHOT_NAMES_BYTES = 3 * MIB;
/** QCOW_MAX_SNAPSHOT_EXTRA_DATA. */
export const MAX_SNAPSHOT_EXTRA_DATA_BYTES = 1024;
/** QCOW2_MAX_BITMAPS. */
export const MAX_BITMAP_COUNT = 65535;
/** QCOW2_MAX_BITMAP_DIRECTORY_SIZE. */
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * MAX_BITMAP_COUNT;
/** BME_MAX_TABLE_SIZE, in entries. */
export const MAX_BITMAP_TABLE_SIZE = 0x800_0000;
/** BME_MAX_PHYS_SIZE: of the clusters of one bitmap. */
export const MAX_BITMAP_BYTES = 512 * MIB;
/** Of the names of all bitmaps: not QEMU's limit, as with those of snapshots. */
export const MAX_BITMAP_NAMES_BYTES = 3 * MIB;
/** BME_MAX_NAME_SIZE. */
export const MAX_BITMAP_NAME_BYTES = 1023;
/** BME_MIN_GRANULARITY_BITS and BME_MAX_GRANULARITY_BITS. */
export const MIN_BITMAP_GRANULARITY_BITS = 9;
export const MAX_BITMAP_GRANULARITY_BITS = 31;
/** qcow2_do_open: "Backing file name too long". */
export const MAX_BACKING_NAME_BYTES = 1023;
/** qcow2_read_extensions: "ext_backing_format: len=… too large (>=16)". */
export const MAX_BACKING_FORMAT_BYTES = 15;
/** PATH_MAX without its NUL (linux/limits.h): no system call takes a longer path. */
export const MAX_PATH_BYTES = 4095;
/** The virtual size is counted in sectors. */
export const SECTOR_BYTES = 512;
