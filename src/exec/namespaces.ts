/**
 * The namespaces in which a command runs, made with unshare(1) and nsenter(1), as Node.js has no unshare(2).
 *
 *     caller's ── daemon's: mounts, for an ordinary user also users ── the command's: mounts, processes
 *
 * The file system is mounted in the innermost one, which has no process of the daemon in it: it ends with the command, and takes its
 * mount and its loop device along, while there still is somebody who serves them.
 */

import fs from 'node:fs';
import { Qcow2fsError } from '../errors.ts';
import { runProgram } from './run-program.ts';

/**
 * What the caller unmounts is unmounted in here too, where the system has its mounts shared (systemd does), or it could not be let
 * go of for as long as the command runs. Nothing that is mounted in here is seen outside.
 */
const OWN_MOUNTS = ['--mount', '--propagation', 'slave'];
const OWN_PROCESSES = ['--pid', '--fork', '--kill-child', '--mount-proc'];
const OWN_USERS = ['--user', '--map-root-user'];

/**
 * Signals of the terminal are for the command alone. A starter that has ended before `setpriv --pdeathsig` was heard is noticed
 * by the number of the parent. $1: the starter, the rest: a command to become.
 */
const GUARD = `trap '' HUP INT QUIT TERM; [ "$PPID" = "$1" ] || exit 125; shift; exec "$@"`;

/**
 * Process 1 of the namespace: takes care of orphans, as Node.js does not, and is not the last one to be forked. What a shell says of
 * the signal that ended its child is for nobody; only a subshell has a standard error of its own there.
 */
const INIT = 'exec 4>&2 2>/dev/null; (exec "$@") 2>&4 4>&-; exit "$?"';

/** user_namespaces(7): each user is mapped to himself. */
const WHOLE_SYSTEM = /^\s*0\s+0\s+4294967295\s*$/;

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** True for root of the system: that of a user namespace (a container without root) can have no loop device. */
export function mayMountDevices(): boolean {
  return isRoot() && WHOLE_SYSTEM.test(fs.readFileSync('/proc/self/uid_map', 'utf8'));
}

/** Makes the daemon's namespaces and becomes the command behind it. */
export function daemonWrapper(): string[] {
  return ['unshare', ...(isRoot() ? [] : OWN_USERS), ...OWN_MOUNTS, '--'];
}

/** Enters the namespaces of a daemon, and runs the command in those for it. */
export function insideCommand(daemonPid: number, command: readonly string[]): string[] {
  const own = (kind: string) => `/proc/${daemonPid}/ns/${kind}`;
  const users = isRoot() ? [] : [`--user=${own('user')}`, '--preserve-credentials'];
  return [
    ...['nsenter', ...users, `--mount=${own('mnt')}`, '--'],
    // Behind nsenter: other credentials make the kernel forget it.
    ...['setpriv', '--pdeathsig', 'KILL', '--'],
    ...['sh', '-c', GUARD, 'sh', String(process.pid)],
    ...['unshare', ...OWN_MOUNTS, ...OWN_PROCESSES, '--'],
    ...['sh', '-c', INIT, 'sh', ...command],
  ];
}

/** @throws Qcow2fsError MOUNT: the namespaces cannot be made, and why. */
export async function requireNamespaces(): Promise<void> {
  const [command = '', ...args] = daemonWrapper().slice(0, -1);
  const { status, stderr } = await runProgram(command, [...args, ...OWN_PROCESSES, '--', 'sh', '-c', ':']);
  if (status === 0) return;
  const remedy = isRoot()
    ? 'give the container `--cap-add SYS_ADMIN` (on a host with AppArmor also `--security-opt apparmor=unconfined`)'
    : 'run it as root, or let users make user namespaces: as root, `sysctl -w kernel.unprivileged_userns_clone=1` or ' +
      '`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, whichever of them there is';
  throw new Qcow2fsError('MOUNT', `no namespaces for the command can be made: ${stderr}; ${remedy}`);
}
