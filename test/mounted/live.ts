/** Mounts of images that change meanwhile. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { escapeName } from '../../src/tree/file-names.ts';
import { isMountpoint, type Place, waitUntil, waitUntilGone, withPlace } from '../daemon/mounting.ts';
import { createImage, createSnapshot, listSnapshots, runQemuIo } from '../oracle/qemu.ts';
import { trueStates } from '../oracle/truth.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { diskFile } from './state-files.ts';

const KIB = 1024;
export const MIB = 1024 * KIB;
/** The disk that `makeLiveImage` makes: longer than what the kernel reads ahead. */
export const DISK_BYTES = 32 * MIB;
/** Where both states of `makeLiveImage` have data of their own, which no read at the beginning brings into a cache. */
export const FAR = 24 * MIB;

export interface LiveMount extends Place {
  readonly image: string;
  /** `image` by default. */
  readonly mount: (options?: readonly string[], images?: readonly string[]) => void;
  readonly unmount: () => void;
  /** What the daemon has logged. */
  readonly log: () => string;
}

/** Runs `body` with an image of `makeLiveImage` and a place to mount it on; nothing of both is left afterwards. */
export function withLiveImage(body: (live: LiveMount) => Promise<void>): Promise<void> {
  return withPlace(async (place) => {
    const logFile = path.join(place.folder, 'log');
    const live: LiveMount = {
      ...place,
      image: makeLiveImage(path.join(place.folder, 'disk.qcow2')),
      mount: (options = [], images = [live.image]) =>
        void runCommand(QCOW2FS, ['mount', '--log-file', logFile, ...options, ...images, place.mountpoint]),
      unmount: () => void runCommand(QCOW2FS, ['umount', place.mountpoint]),
      log: () => fs.readFileSync(logFile, 'utf8'),
    };
    await body(live);
  });
}

/** As `withLiveImage`, mounted; the mount has to end in order. */
export function withLiveMount(
  body: (live: LiveMount) => Promise<void>,
  options: readonly string[] = [],
): Promise<void> {
  return withLiveImage(async (live) => {
    live.mount(options);
    await body(live);
    live.unmount();
    await waitUntilGone(live.mountpoint);
    expect(isMountpoint(live.mountpoint)).toBe(false);
  });
}

/** An image with the snapshots monday and tuesday; their bytes are a and b, those of the current state c. */
export function makeLiveImage(image: string): string {
  createImage(image, { sizeBytes: DISK_BYTES });
  fillDisk(image, 'a');
  createSnapshot(image, 'monday');
  fillDisk(image, 'b');
  createSnapshot(image, 'tuesday');
  fillDisk(image, 'c');
  return image;
}

/** Writes this letter to the first and to the last megabytes of the disk. */
export function fillDisk(image: string, letter: string): void {
  const pattern = letter.charCodeAt(0);
  runQemuIo(image, [`write -q -P ${pattern} 0 2M`, `write -q -P ${pattern} ${FAR} 8M`]);
}

/** What image.json says: read anew if it is exchanged for another one between the opening and the reading. */
export function readImageJson(mountpoint: string): { writer: unknown; snapshots: { name: string }[] } {
  for (let attempt = 0; ; attempt++) {
    let text = '';
    const error = errorOf(() => {
      text = fs.readFileSync(path.join(mountpoint, 'image.json'), 'utf8');
    });
    if (error === undefined) return JSON.parse(text);
    expect(error).toBe('ESTALE');
    expect(attempt).toBeLessThan(10);
  }
}

export function snapshotDisk(mountpoint: string, name: string): string {
  return path.join(mountpoint, 'snapshots', name, 'disk.raw');
}

export function currentDisk(mountpoint: string): string {
  return path.join(mountpoint, 'current', 'disk.raw');
}

/** The byte of a file at an offset, as a letter; the code of the error if it cannot be read. */
export function letterAt(file: string, offset: number): string {
  try {
    const fd = fs.openSync(file, 'r');
    try {
      return letterOf(fd, offset);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    return codeOf(error);
  }
}

/** As `letterAt`, of a file that is open. */
export function letterOf(fd: number, offset: number): string {
  const byte = Buffer.alloc(1);
  try {
    if (fs.readSync(fd, byte, 0, 1, offset) === 0) return 'end of file';
    return byte[0] === 0 ? 'zero' : byte.toString('latin1');
  } catch (error) {
    return codeOf(error);
  }
}

/** The code of the error that `action` ends with; undefined without one. */
export function errorOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return codeOf(error);
  }
}

/** Keeps a file open while `body` runs. */
export async function whileOpen<Result>(file: string, body: (fd: number) => Result | Promise<Result>): Promise<Result> {
  const fd = fs.openSync(file, 'r');
  try {
    return await body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Waits until names, dates and sizes of all states are what QEMU says of the image. */
export async function waitUntilFollowed(mountpoint: string, image: string): Promise<void> {
  await waitUntil(() => JSON.stringify(shownStates(mountpoint)) === JSON.stringify(statesByQemu(image)));
}

/** What is shown is what QEMU's tools read in a copy of the image, to the byte. */
export async function expectFollowed({ folder, image, mountpoint }: LiveMount): Promise<void> {
  await waitUntilFollowed(mountpoint, image);
  const truth = path.join(folder, 'truth');
  fs.mkdirSync(truth);
  try {
    for (const state of trueStates(image, truth)) {
      const { status, stderr } = tryCommand('cmp', [state.rawPath, diskFile(mountpoint, state)]);
      expect(`${status} ${stderr}`, state.title).toBe('0 ');
    }
  } finally {
    fs.rmSync(truth, { recursive: true });
  }
  expect(shownStates(mountpoint)).toEqual(statesByQemu(image));
  for (const { id, name } of listSnapshots(image)) {
    const snapshot = path.join(mountpoint, 'by-id', id, 'disk.raw');
    expect(runCommand('getfattr', ['--absolute-names', '--only-values', '-n', 'user.qcow2.name', snapshot])).toBe(name);
  }
}

interface ShownState {
  readonly id: string;
  readonly name: string;
  /** In milliseconds since 1970: fuse-native passes no more on. */
  readonly date: string;
}

/** The snapshots in the order of their ids, and the size of the disk. */
function shownStates(mountpoint: string): { snapshots: ShownState[]; diskBytes: number } | string {
  try {
    const snapshots = fs.readdirSync(path.join(mountpoint, 'by-id')).map((id) => {
      const target = fs.readlinkSync(path.join(mountpoint, 'by-id', id));
      const { mtimeMs } = fs.statSync(path.join(mountpoint, 'by-id', target), { bigint: true });
      return { id, name: path.basename(target), date: String(mtimeMs) };
    });
    return { snapshots: snapshots.sort(byId), diskBytes: fs.statSync(currentDisk(mountpoint)).size };
  } catch (error) {
    // Something went between the listing and the look at it.
    return codeOf(error);
  }
}

function statesByQemu(image: string): { snapshots: ShownState[]; diskBytes: number } {
  const info = JSON.parse(runCommand('qemu-img', ['info', '-U', '--output=json', image])) as {
    'virtual-size': number;
    snapshots?: { id: string; name: string; 'date-sec': number; 'date-nsec': number }[];
  };
  const snapshots = (info.snapshots ?? []).map((snapshot) => ({
    id: snapshot.id,
    name: fileNameOf(snapshot.name),
    date: String(snapshot['date-sec'] * 1000 + Math.floor(snapshot['date-nsec'] / 1e6)),
  }));
  return { snapshots: snapshots.sort(byId), diskBytes: info['virtual-size'] };
}

/** The names of files are bytes; `escapeName` has a character for each. */
function fileNameOf(name: string): string {
  return Buffer.from(escapeName(Buffer.from(name).toString('latin1')), 'latin1').toString();
}

function byId(one: ShownState, other: ShownState): number {
  return Number(one.id) - Number(other.id);
}

/** libuv has no name for ESTALE. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error) || !('errno' in error)) throw error;
  const found = Object.entries(os.constants.errno).find(([, errno]) => errno === -Number(error.errno));
  return found?.[0] ?? error.message;
}
