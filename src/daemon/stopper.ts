/**
 * How a daemon stops: it removes its mount, and ends when its workers notice. Nothing ends the process before: a thread
 * that sits in read(2) keeps process.exit() waiting for ever, with a mount that looks alive.
 */

import { createLogger, warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { unmountIdle, unmountLazily, unmountLazilyNow } from '../fuse/unmount.ts';
import { describeMountUsers } from './mount-users.ts';

const log = createLogger('daemon');

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Stopper {
  /** Of the process, once the mount has ended. */
  exitCode = 0;
  readonly #mounting: Promise<{ readonly mount: Mount }>;
  readonly #finishing = new AbortController();
  #stopCount = 0;
  #hasMountEnded = false;

  /** From now on signals and uncaught errors lead here; before there is a mount they just end the process. */
  constructor(mounting: Promise<{ readonly mount: Mount }>) {
    this.#mounting = mounting;
    for (const signal of STOP_SIGNALS) process.on(signal, () => this.stop());
    process.on('uncaughtException', (error) => this.#fail(error));
  }

  get isStopping(): boolean {
    return this.#stopCount > 0;
  }

  /** Removes the mount, at the latest when its last user is gone. The second time at once, whatever that costs them. */
  stop(): void {
    if (this.#hasMountEnded) {
      this.#finishing.abort(new Qcow2fsError('IO', 'a signal has ended it'));
      return;
    }
    this.#stopCount++;
    void this.#mounting
      .then(({ mount }) => (this.#stopCount > 1 ? forceEnd(mount) : removeMount(mount)))
      .catch((error: unknown) => warn(`stopping failed: ${messageOf(error)}`));
  }

  /** From now on `stop` aborts the signal that this returns, for what is still to be done without the mount. */
  mountEnded(): AbortSignal {
    this.#hasMountEnded = true;
    return this.#finishing.signal;
  }

  /** The workers do not depend on main: who has a file open can read on until it is closed. */
  #fail(error: Error): void {
    warn(`the daemon failed unexpectedly: ${error.stack ?? error.message}`);
    this.exitCode = 1;
    this.stop();
  }
}

async function removeMount(mount: Mount): Promise<void> {
  const { result, message } = await unmountIdle(mount);
  log('unmount of %s: %s %s', mount.mountpoint, result, message);
  if (result === 'unmounted') return;
  const users = await describeMountUsers(mount);
  warn(
    `${mount.mountpoint} is still in use (${users === '' ? message : users}): it is detached, and served until its last ` +
      `user closes it; a second signal ends that`,
  );
  await unmountLazily(mount);
}

/** SIGKILL is the one way to end threads in read(2); the kernel then answers all waiting requests with an error. */
function forceEnd(mount: Mount): void {
  unmountLazilyNow(mount);
  process.kill(process.pid, 'SIGKILL');
}
