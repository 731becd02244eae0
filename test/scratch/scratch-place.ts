/** A place for scratch views of an image with the snapshots monday (a) and tuesday (b), whose current state is c. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { type Place, waitUntilGone, withPlace } from '../daemon/mounting.ts';
import { makeLiveImage } from '../mounted/live.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { type CommandResult, runCommand, tryCommand } from '../support/run-command.ts';

export interface ScratchPlace extends Place {
  readonly image: string;
  /** `disk.raw` of the view. */
  readonly disk: string;
  /** `monday` by default. */
  readonly mount: (options?: readonly string[], choice?: ScratchChoice) => void;
  /** As `mount`, for one that may fail. */
  readonly tryMount: (options?: readonly string[], choice?: ScratchChoice) => CommandResult;
  /** Returns when no daemon is left. */
  readonly unmount: () => Promise<void>;
  /** What the daemon has logged, by lines. */
  readonly log: () => string[];
}

export interface ScratchChoice {
  readonly state?: string;
  readonly image?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The image is one of `makeLiveImage`. Nothing is left afterwards. */
export function withScratchPlace(body: (place: ScratchPlace) => Promise<void>): Promise<void> {
  return withPlace(async (place) => {
    const { folder, mountpoint } = place;
    const image = makeLiveImage(path.join(folder, 'disk.qcow2'));
    const logFile = path.join(folder, 'log');
    const tryMount = (options: readonly string[] = [], { state = 'monday', env = {}, ...choice }: ScratchChoice = {}) =>
      tryCommand(QCOW2FS, ['scratch', '--log-file', logFile, ...options, choice.image ?? image, state, mountpoint], {
        env,
      });
    await body({
      ...place,
      image,
      disk: path.join(mountpoint, 'disk.raw'),
      tryMount,
      mount: (options, choice) => expect(tryMount(options, choice)).toEqual({ status: 0, stdout: '', stderr: '' }),
      async unmount() {
        runCommand(QCOW2FS, ['umount', mountpoint]);
        await waitUntilGone(mountpoint);
      },
      log: () => fs.readFileSync(logFile, 'utf8').split('\n').filter(Boolean),
    });
  });
}

/** Writes this letter with dd, `lengthBytes` of it; what dd says is in English. */
export function tryFill(disk: string, letter: string, offset: number, lengthBytes: number): CommandResult {
  const script =
    'tr "\\0" "$2" </dev/zero | head -c "$4" | ' +
    'dd of="$1" bs=64k seek="$3" oflag=seek_bytes iflag=fullblock conv=notrunc status=none';
  return tryCommand('sh', ['-c', script, 'sh', disk, letter, `${offset}`, `${lengthBytes}`]);
}

/** The letters of a range of a file, each once, in the order in which they come; zeros are `0`. */
export function lettersIn(file: string, offset: number, lengthBytes: number): string {
  const bytes = Buffer.alloc(lengthBytes);
  const fd = fs.openSync(file, 'r');
  try {
    const count = fs.readSync(fd, bytes, 0, lengthBytes, offset);
    if (count !== lengthBytes) throw new Error(`${file}: ${count} bytes of ${lengthBytes} were read`);
  } finally {
    fs.closeSync(fd);
  }
  const letters: string[] = [];
  for (const byte of bytes) {
    const letter = byte === 0 ? '0' : String.fromCharCode(byte);
    if (letters.at(-1) !== letter) letters.push(letter);
  }
  return letters.join('');
}

/** Makes a hole of a range. */
export function punch(disk: string, offset: number, lengthBytes: number): void {
  runCommand('fallocate', ['--punch-hole', '--offset', `${offset}`, '--length', `${lengthBytes}`, disk]);
}
