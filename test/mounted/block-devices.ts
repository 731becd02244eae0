/** File systems on loop devices: made with files in them, and mounted. */

import fs from 'node:fs';
import path from 'node:path';
import { Random } from '../oracle/random.ts';
import { runCommand } from '../support/run-command.ts';
import { unmountLoop } from '../support/unmount-loop.ts';

/** Files of many sizes in three folders; another `seed`, other contents. */
export function makeSourceTree(folder: string, seed = 3, name = 'source'): string {
  const source = path.join(folder, name);
  const deep = path.join(source, 'deep', 'deeper');
  fs.mkdirSync(deep, { recursive: true });
  const random = new Random(seed);
  for (let index = 0; index < 40; index++) {
    fs.writeFileSync(path.join(index % 2 ? deep : source, `file ${index}`), random.bytes(random.below(150_000)));
  }
  fs.symlinkSync('deep/deeper', path.join(source, 'link'));
  return source;
}

/** Copies the tree into the file system in a file. */
export function fillFileSystem(folder: string, raw: string, source: string): void {
  const mounted = path.join(folder, 'filled');
  fs.mkdirSync(mounted);
  runCommand('mount', ['-o', 'loop', raw, mounted]);
  try {
    runCommand('cp', ['-a', `${source}/.`, mounted]);
  } finally {
    unmountLoop(raw, mounted);
    fs.rmdirSync(mounted);
  }
}

export async function withLoopDevice(
  args: readonly string[],
  body: (device: string) => void | Promise<void>,
): Promise<void> {
  const device = runCommand('losetup', ['-f', '--show', ...args]).trim();
  try {
    await body(device);
  } finally {
    runCommand('losetup', ['-d', device]);
  }
}

export function withBlockDeviceMount(
  device: string,
  options: readonly string[],
  folder: string,
  body: (mounted: string) => void,
): void {
  const mounted = path.join(folder, 'mounted');
  fs.mkdirSync(mounted);
  runCommand('mount', [...options, device, mounted]);
  try {
    body(mounted);
  } finally {
    runCommand('umount', [mounted]);
    fs.rmdirSync(mounted);
  }
}
