/** Sizes that the two sides agree on in FUSE_INIT, and the buffers that follow from them. */

/**
 * The largest READ, by the mount option `max_read` on machines with pages of any size. The kernel splits a larger read
 * into requests that several workers serve at once. 1 MiB would be possible (FUSE_MAX_MAX_PAGES), but then a reader that
 * asks for 1 MiB at a time keeps one worker busy and the others idle: 256 KiB are a quarter faster, and less again is
 * spent on waking workers.
 */
export const MAX_READ_BYTES = 256 * 1024;

/** Pages that one READ may span. */
export const MAX_PAGES = MAX_READ_BYTES / 4096;

/** What the kernel reads ahead of a sequential reader: several requests, so that all workers have one; see `chooseReadAhead`. */
export const READ_AHEAD_BYTES = 1024 * 1024;

/** The largest WRITE: on a mount that is read-only the least that the kernel takes, and otherwise as much as a READ. */
export const MAX_WRITE_BYTES = { readOnly: 4096, writable: MAX_READ_BYTES } as const;

/**
 * Room for one request. read(2) on /dev/fuse fails with EINVAL below max(FUSE_MIN_READ_BUFFER, 80 + max_write), that is
 * 8 KiB (fs/fuse/dev.c, fuse_dev_do_read).
 */
export const REQUEST_BUFFER_BYTES = 64 * 1024;
export const WRITABLE_REQUEST_BUFFER_BYTES = REQUEST_BUFFER_BYTES + MAX_WRITE_BYTES.writable;

/** FUSE_NAME_MAX was 1024 for long; names of all usual file systems end at 255. */
export const NAME_MAX_BYTES = 255;

/**
 * How long the kernel believes a name or attributes. What changes is told to it at once (`wire/notify.ts`), so this only
 * bounds the time that a message which crossed a reply could be without effect. Pages of files have no such time: a file
 * whose contents change becomes another node.
 */
export const VALID_MS = 500;

/** The unit of st_blksize and of statfs(2): a page. */
export const BLOCK_BYTES = 4096;
