/**
 * The one error class of this project. Every failure that a user, a test or the kernel can meet carries a stable
 * code, so that it can be matched without reading the message, and the data that the message was made from.
 */

/**
 * Stable codes, each with the situation it stands for. `filesystem/errno.ts` turns them into errnos in one place.
 */
export type ErrorCode =
  /** The command line was wrong: exit 2. */
  | 'USAGE'
  /** A file, state or node with that name does not exist. */
  | 'NOT_FOUND'
  /** The file is not a qcow2 image. */
  | 'NOT_QCOW2'
  /** The image uses a feature that this reader does not have. */
  | 'UNSUPPORTED'
  /** The image is encrypted, and the passphrase is missing or wrong. */
  | 'LOCKED'
  /** A field, table or cluster of the image is invalid. */
  | 'DAMAGED'
  /** A table or cluster lies past the end of the image file. */
  | 'PAST_END'
  /** The image was changed since it was opened: its tables can no longer be trusted. */
  | 'STALE'
  /** Somebody writes to the image: what is on its disk is not its current state. */
  | 'BUSY'
  /** The operating system failed to read, open or list something; `cause` has its error. */
  | 'IO'
  /** What cannot be changed was to be changed: an image, or the size of a file. */
  | 'READ_ONLY'
  /** There is no room for what was to be written. */
  | 'NO_SPACE'
  /** A mount or unmount failed. */
  | 'MOUNT'
  /** A file that an image names may not be opened: see `disk/gate.ts`. */
  | 'REFUSED'
  /** A bug in this program. */
  | 'INTERNAL';

/** Values that went into a message, for logs and tests. */
export type ErrorData = Readonly<Record<string, string | number | boolean | null>>;

/** An error with a stable code; `message` names the file, the field and what to do, in one line. */
export class Qcow2fsError extends Error {
  override readonly name = 'Qcow2fsError';
  readonly code: ErrorCode;
  readonly data: ErrorData;

  constructor(code: ErrorCode, message: string, options: { data?: ErrorData; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a Node.js system error (`ENOENT`, …), or undefined for anything else. */
export function systemCodeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
