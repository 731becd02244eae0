/** Runs mount(8) and umount(8) without blocking the main thread, which must stay free for its workers. */

import { spawn } from 'node:child_process';
import { messageOf, Qcow2fsError } from '../errors.ts';

export interface ToolResult {
  readonly isOk: boolean;
  /** What the tool said, on one line, without its name and the mountpoint. */
  readonly message: string;
}

/**
 * Runs mount(8) or umount(8), whose last argument is the mountpoint; `extraFd` becomes its descriptor 3.
 * @throws Qcow2fsError MOUNT when it cannot be started at all.
 */
export function runTool(command: string, args: readonly string[], extraFd?: number): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(extraFd === undefined ? [] : [extraFd])],
      // Its messages are matched and shown.
      env: { ...process.env, LC_ALL: 'C' },
    });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (cause) => {
      reject(new Qcow2fsError('MOUNT', `${command} cannot be run: ${messageOf(cause)}; install util-linux`, { cause }));
    });
    child.on('close', (status) => {
      resolve({ isOk: status === 0, message: reasonIn(stderr, args.at(-1) ?? '') });
    });
  });
}

/** `umount: /mnt: target is busy.`; mount(8) adds hints (`dmesg(1) may have more information`) on lines of their own. */
function reasonIn(stderr: string, mountpoint: string): string {
  const line = stderr.trim().split('\n', 1)[0] ?? '';
  return line
    .replace(/^u?mount: /, '')
    .replace(`${mountpoint}: `, '')
    .replace(/\.$/, '');
}
