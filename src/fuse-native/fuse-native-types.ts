/** The part of fuse-native 2.2 that is used: it has no types of its own, and this program is built without it too. */

/** `errno` is 0 or negative. */
export type Callback<Value> = (errno: number, value?: Value) => void;

export interface FuseNativeStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  /** 32 bits of it get through. */
  readonly ino: number;
  readonly blksize: number;
  /** Of 512 bytes. */
  readonly blocks: number;
  /** Times in milliseconds. */
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

/** 32 bits of each number get through. */
export interface FuseNativeStatfs {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly files: number;
  readonly namemax: number;
}

/** Paths begin with `/` and are UTF-8. */
export interface FuseNativeOperations {
  getattr(path: string, reply: Callback<FuseNativeStat>): void;
  /** Gets its handle through `guardOpenFileAttributes` only. */
  fgetattr(path: string, handle: number, reply: Callback<FuseNativeStat>): void;
  readdir(path: string, reply: Callback<readonly string[]>): void;
  readlink(path: string, reply: Callback<string>): void;
  statfs(path: string, reply: Callback<FuseNativeStatfs>): void;
  /** `reply` gets a handle, above 0 and below 2^31, which the other operations on the open file are given. */
  open(path: string, flags: number, reply: Callback<number>): void;
  /** `reply` gets the number of bytes, or a negative errno. */
  read(
    path: string,
    handle: number,
    target: Buffer,
    length: number,
    offset: number,
    reply: (result: number) => void,
  ): void;
  release(path: string, handle: number, reply: Callback<void>): void;
  /** These four are left out of a file system that is read-only. `reply` gets the number of bytes, or a negative errno. */
  write?(
    path: string,
    handle: number,
    source: Buffer,
    length: number,
    offset: number,
    reply: (result: number) => void,
  ): void;
  fsync?(path: string, isDataOnly: number, handle: number, reply: Callback<void>): void;
  truncate?(path: string, sizeBytes: number, reply: Callback<void>): void;
  utimens?(path: string, atime: number, mtime: number, reply: Callback<void>): void;
  /** Both are replaced, see `guardExtendedAttributes`; that they are there makes libfuse offer them. */
  getxattr(): void;
  listxattr(): void;
}

type AttributeSignal = (errno: number, numbers: Uint32Array) => void;

type Signal = (result: number, memory: ArrayBufferLike) => void;

export interface FuseNative {
  mount(done: (error?: Error | null) => void): void;
  readonly ops: FuseNativeOperations;
  _op_getattr(this: { ops: Pick<FuseNativeOperations, 'getattr'> }, signal: AttributeSignal, path: string): void;
  _op_fgetattr: (signal: AttributeSignal, path: string, handle: number) => void;
  _op_getxattr: (signal: Signal, path: string, name: string, target: Buffer) => void;
  _op_listxattr: (signal: Signal, path: string, target: Buffer) => void;
}

export type FuseNativeConstructor = new (
  mountpoint: string,
  operations: FuseNativeOperations,
  options: {
    /** false: none; otherwise a slow answer leaves a buffer behind that is in use. */
    readonly timeout: false;
    readonly subtype: string;
  },
) => FuseNative;
