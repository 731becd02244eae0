/** Sizes that the two sides agree on in FUSE_INIT, and the buffers that follow from them. */

/**
 * Pages that one READ may span: FUSE_MAX_MAX_PAGES of fs/fuse/fuse_i.h, which newer kernels have as the default of the
 * sysctl fs.fuse.max_pages_limit.
 */
export const MAX_PAGES = 256;

/**
 * The largest READ. `max_pages` alone would allow more where a page has more than 4 KiB; the mount option `max_read`
 * holds the kernel to this on every machine.
 */
export const MAX_READ_BYTES = MAX_PAGES * 4096;

/** The least that the kernel takes; nothing is ever written here. */
export const MAX_WRITE_BYTES = 4096;

/**
 * Room for one request. read(2) on /dev/fuse fails with EINVAL below max(FUSE_MIN_READ_BUFFER, 80 + max_write), that is
 * 8 KiB (fs/fuse/dev.c, fuse_dev_do_read).
 */
export const REQUEST_BUFFER_BYTES = 64 * 1024;

/** FUSE_NAME_MAX was 1024 for long; names of all usual file systems end at 255. */
export const NAME_MAX_BYTES = 255;

/** Nothing that is shown ever changes by itself, so the kernel may keep names and attributes as long as it likes. */
export const VALID_SECONDS = 86_400 * 365;

/** The unit of st_blksize and of statfs(2): a page. */
export const BLOCK_BYTES = 4096;
