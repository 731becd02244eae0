/** The state of a machine (savevm), saved and read back by QEMU. */

import fs from 'node:fs';
import { runCommand } from '../support/run-command.ts';
import { applySnapshot, resizeImage } from './qemu.ts';

/** What the L2 tables of a disk up to this size map, in clusters of 64 KiB: there the VM state begins. */
export const VM_STATE_OFFSET = 512 << 20;

/** A machine without a guest: it runs the commands of QEMU's monitor on the image, which it knows as `disk`. */
export function runMachine(image: string, commands: readonly string[]): void {
  const machine = ['-S', '-machine', 'pc,accel=tcg', '-m', '32', '-nodefaults', '-display', 'none', '-serial', 'none'];
  const drive = `file=${image},format=qcow2,if=virtio,id=disk`;
  const input = `${[...commands, 'quit'].join('\n')}\n`;
  runCommand('qemu-system-x86_64', [...machine, '-monitor', 'stdio', '-drive', drive], { input });
}

/** A disk that is grown over its VM state shows that as its own data: so QEMU reads it. Works in `folder`. */
export function vmStateByQemu(folder: string, image: string, id: string, lengthBytes: number): Buffer {
  const copy = `${folder}/copy.qcow2`;
  const raw = `${folder}/copy.raw`;
  fs.copyFileSync(image, copy);
  applySnapshot(copy, id);
  if (!resizeImage(copy, VM_STATE_OFFSET + (64 << 20))) throw new Error('QEMU does not grow the disk');
  runCommand('qemu-img', ['convert', '-O', 'raw', copy, raw]);
  const file = fs.openSync(raw, 'r');
  try {
    const bytes = Buffer.alloc(lengthBytes);
    if (fs.readSync(file, bytes, 0, lengthBytes, VM_STATE_OFFSET) !== lengthBytes) throw new Error('it is too short');
    return bytes;
  } finally {
    fs.closeSync(file);
    fs.rmSync(copy);
    fs.rmSync(raw);
  }
}
