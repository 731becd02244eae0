/** Removes a mount. */

import { spawnSync } from 'node:child_process';
import { unmountCommand } from './mounter.ts';
import { isMounted, type Mount } from './mountinfo.ts';
import { runTool, type ToolResult } from './run-tool.ts';

/** `busy`: a file is open, a directory is somebody's working directory, a loop device or another mount sits in it. */
export type UnmountResult = 'unmounted' | 'busy' | 'failed';

/** Removes the mount if nobody uses it. One that is gone already counts as unmounted; nothing else is ever removed. */
export async function unmountIdle(mount: Mount): Promise<{ result: UnmountResult; message: string }> {
  if (!isMounted(mount)) return { result: 'unmounted', message: '' };
  const { isOk, message } = await runUnmount(mount, 'idle');
  if (isOk) return { result: 'unmounted', message };
  return { result: message.includes('busy') ? 'busy' : 'failed', message };
}

/** Takes the mount out of the tree at once; who uses it can go on until the last file is closed. */
export async function unmountLazily(mount: Mount): Promise<ToolResult> {
  if (!isMounted(mount)) return { isOk: true, message: '' };
  return runUnmount(mount, 'lazy');
}

/** For the last moments of a process, when nothing asynchronous runs any more. */
export function unmountLazilyNow(mount: Mount): void {
  if (!isMounted(mount)) return;
  const [command, ...args] = unmountCommand('lazy');
  spawnSync(command, [...args, mount.mountpoint], { stdio: 'ignore', timeout: 2000 });
}

function runUnmount(mount: Mount, how: 'idle' | 'lazy'): Promise<ToolResult> {
  const [command, ...args] = unmountCommand(how);
  return runTool(command, [...args, mount.mountpoint]);
}
