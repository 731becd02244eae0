/**
 * Removes the mount when the daemon is killed with SIGKILL or crashes, and could not do it itself: otherwise the
 * mountpoint would stay behind and answer everything with "Transport endpoint is not connected".
 *
 * It is one idle /bin/sh whose stdin is a pipe from the daemon: end of file means that the daemon is gone.
 */

import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { warn } from '../common/logging.ts';
import { spawnChild } from '../common/spawn-child.ts';
import { messageOf } from '../errors.ts';
import { unmountCommand } from './mounter.ts';
import type { Mount } from './mountinfo.ts';

/**
 * $1 MAJ:MIN, $2 mountpoint as in mountinfo, then the command that removes it. Signals to a terminal's or session's processes must not end
 * it before the daemon. The last line of the mountpoint is the mount that is seen there, and only that one would be removed:
 * if it has another MAJ:MIN, somebody mounted something newer.
 */
const SCRIPT = `
trap '' INT TERM HUP
while read -r _; do :; done
seen=
while read -r _ _ device _ point _; do
  if [ "$point" = "$2" ]; then seen=$device; fi
done < /proc/self/mountinfo
if [ "$seen" = "$1" ]; then shift 2; exec "$@"; fi
`;

/** Warns if there cannot be one. */
export function startWatchdog(mount: Mount): void {
  const removal = [...unmountCommand('lazy'), mount.mountpoint];
  const args = ['-c', SCRIPT, 'qcow2fs-watchdog', mount.device, mount.escapedMountpoint, ...removal];
  let child: ChildProcess;
  try {
    // In a session of its own, and with a working directory that keeps nothing busy.
    child = spawnChild('/bin/sh', args, { detached: true, cwd: '/', stdio: ['pipe', 'ignore', 'ignore'] });
  } catch (error) {
    warnOfNone(error);
    return;
  }
  child.on('error', warnOfNone);
  // Neither may keep the daemon's event loop alive. EPIPE, when the shell was killed, is nobody's concern.
  child.unref();
  const stdin = child.stdin as Socket;
  stdin.on('error', () => {});
  stdin.unref();
}

function warnOfNone(error: unknown): void {
  warn(`no watchdog, a killed daemon will leave its mount behind: ${messageOf(error)}`);
}
