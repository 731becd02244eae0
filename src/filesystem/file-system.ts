/**
 * The contract between what is shown (`tree/`) and how it is served (`fuse/`, and later other transports).
 *
 * A file system is read-only, synchronous, and stateless between calls: an open file is its node, so any thread that
 * has an equal file system can serve any request. What it shows does not change: a changed image is shown by another file
 * system, in which a node that both have is the same, with the same contents.
 */

/** Inode number of a node. Never used for another node as long as it is mounted. Below 2^53. */
export type NodeId = number;

/** The root directory: FUSE_ROOT_ID of the kernel. */
export const ROOT_NODE_ID: NodeId = 1;

export type NodeKind = 'directory' | 'file' | 'symlink';

/** `volatile`: its bytes or its size may change, and must not be kept in a cache. */
export type OpenFileKind = 'steady' | 'volatile';

/** A point in time: whole seconds since 1970-01-01T00:00:00Z, and nanoseconds 0 .. 999,999,999. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface Attributes {
  readonly nodeId: NodeId;
  readonly kind: NodeKind;
  /** Permission bits only (0o777 at most). */
  readonly permissions: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Becomes `st_blocks`: bytes that hold data, 0 for what is a hole. */
  readonly allocatedBytes: number;
  /** Used for atime, mtime, ctime and birth time alike: nothing here ever changes. */
  readonly time: Timestamp;
}

/**
 * One entry of a directory. `name` holds one character per byte (latin1), since file names are bytes.
 */
export interface DirectoryEntry {
  readonly name: string;
  readonly nodeId: NodeId;
  readonly kind: NodeKind;
}

/** Numbers for statfs(2). Free space is always 0: the file system is read-only. */
export interface FileSystemStatistics {
  readonly totalBytes: number;
  readonly nodeCount: number;
}

/**
 * Every method throws `Qcow2fsError`; `toErrno` says which errno that becomes. A node that does not exist is
 * `NOT_FOUND`, or `undefined` where the signature says so.
 */
export interface FileSystem {
  /** The node called `name` (latin1, see DirectoryEntry) in directory `parent`, or undefined. */
  lookup(parent: NodeId, name: string): NodeId | undefined;
  attributes(node: NodeId): Attributes;
  /** All entries of a directory without `.` and `..`, in the order of their nodes. */
  entries(directory: NodeId): readonly DirectoryEntry[];
  /** The directory that holds `node`; the root is its own parent. */
  parent(node: NodeId): NodeId;
  /** Throws when the file cannot be opened now. */
  open(node: NodeId): OpenFileKind;
  /**
   * Reads up to `length` bytes at `offset` of a file into `target` from `targetOffset` on. Returns the number of bytes:
   * `length`, or less only where the file ends. Throws when any byte in the range cannot be read exactly.
   */
  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number;
  /** The first offset >= `offset` that holds data, or undefined if only a hole follows. `offset` is below the size. */
  seekData(node: NodeId, offset: number): number | undefined;
  /** The first offset >= `offset` in a hole; the end of the file counts as one. `offset` is below the size. */
  seekHole(node: NodeId, offset: number): number;
  /** The target of a symlink, as bytes. */
  readlink(node: NodeId): Buffer;
  /** The value of an extended attribute, or undefined if the node has none of that name. */
  xattr(node: NodeId, name: string): Buffer | undefined;
  xattrNames(node: NodeId): readonly string[];
  statistics(): FileSystemStatistics;
}

/**
 * A file system with files that can be changed in place: their bytes, and nothing else of them. What one call has changed is
 * seen by every later one, in every thread.
 */
export interface WritableFileSystem extends FileSystem {
  /**
   * Writes `length` bytes of `source` from `sourceOffset` on at `offset` of a file. Returns the number of bytes: `length`, or less
   * only where the file ends.
   * @throws Qcow2fsError READ_ONLY, NO_SPACE; nothing is changed then.
   */
  write(node: NodeId, source: Buffer, sourceOffset: number, offset: number, length: number): number;
  /** Makes a range read as zeros, as far as the file goes, and gives the space back that it took. @throws as `write`. */
  discard(node: NodeId, offset: number, length: number): void;
  /** Returns when all that was written to the file is kept as safely as it ever will be. */
  sync(node: NodeId): void;
}

/** True for the file systems of which files can be written. */
export function isWritable(fileSystem: FileSystem): fileSystem is WritableFileSystem {
  return 'write' in fileSystem;
}
