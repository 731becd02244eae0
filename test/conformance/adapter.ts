/** What the suite asks of every transport. Paths are relative to the top of what is shown; errors carry an errno's name. */

export interface NodeStat {
  readonly kind: 'directory' | 'file' | 'symlink';
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  readonly inode: number;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  /** Of the last change, in nanoseconds since 1970, in decimal. */
  readonly modifiedNs: string;
}

export interface Statistics {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly nodeCount: number;
}

/** Where data and holes begin: `DATA 0`, `HOLE 65536`, … */
export type ExtentStart = `${'DATA' | 'HOLE'} ${number}`;

/** The methods reject with an error whose `code` is `ENOENT` and the like. */
export interface Adapter {
  list(path: string): Promise<readonly string[]>;
  stat(path: string): Promise<NodeStat>;
  /** One read of up to `length` bytes. `offset` may be any decimal number that off_t has. */
  read(path: string, offset: number | string, length: number): Promise<Buffer>;
  readAll(path: string): Promise<Buffer>;
  sha256(path: string): Promise<string>;
  readlink(path: string): Promise<string>;
  extents(path: string): Promise<readonly ExtentStart[]>;
  /** lseek(2); undefined for ENXIO. */
  seek(path: string, whence: 'data' | 'hole', offset: number): Promise<number | undefined>;
  xattrs(path: string): Promise<Readonly<Record<string, string>>>;
  xattr(path: string, name: string): Promise<string>;
  statistics(): Promise<Statistics>;
  /** Tries something that would write; rejects if that is refused. */
  tryToWrite(attempt: WriteAttempt): Promise<void>;
}

/** The keys of `writes` in the agent. */
export const WRITE_ATTEMPTS = [
  'open',
  'truncate',
  'create',
  'mkdir',
  'symlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'chmod',
  'chown',
  'utimes',
] as const;
export type WriteAttempt = (typeof WRITE_ATTEMPTS)[number];

export function errnoError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
