/** What is to be mounted, where and how. */

export interface MountOptions {
  readonly imagePath: string;
  readonly mountpoint: string;
  /** Reads bypass the page cache. */
  readonly directIo: boolean;
  /** Where a daemon in the background writes its warnings; without it, to the system log. */
  readonly logFile?: string;
}

/** What the daemon's process gets, as JSON in its second argument; both paths are absolute. */
export interface DaemonOptions {
  readonly imagePath: string;
  /** Without symlinks: as it will stand in /proc/self/mountinfo. */
  readonly mountpoint: string;
  readonly directIo: boolean;
  /** The starting process stays: the daemon stops when it ends. */
  readonly isForeground: boolean;
}
