/** Runs mount(8), umount(8) and fusermount3 without blocking the main thread, which must stay free for its workers. */

import { spawnChild } from '../common/spawn-child.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';

export interface ToolResult {
  readonly isOk: boolean;
  /** What the tool said, on one line, without its name and the mountpoint. */
  readonly message: string;
}

export interface ToolExtras {
  /** Becomes its descriptor 3. */
  readonly extraFd?: number;
  /** Variables on top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs a tool whose last argument is the mountpoint.
 * @throws Qcow2fsError MOUNT when it cannot be started at all; IO if too many files are open.
 */
export function runTool(
  command: string,
  args: readonly string[],
  { extraFd, env = {} }: ToolExtras = {},
): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawnChild(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(extraFd === undefined ? [] : [extraFd])],
      // Its messages are matched and shown.
      env: { ...process.env, ...env, LC_ALL: 'C' },
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
    .replace(/^(u?mount|fusermount3?): /, '')
    .replace(`${mountpoint}: `, '')
    .replace(/\.$/, '');
}
