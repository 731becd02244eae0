/** Clusters of PostgreSQL that the ordinary user of the tests runs. */

import fs from 'node:fs';
import path from 'node:path';
import { asOrdinaryUser, ordinaryUser, runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { startCommand } from '../support/run-async.ts';

/** Debian has the programs of each version in a folder of their own. */
const VERSIONS = '/usr/lib/postgresql';

/** Only what a table on it says is safe is lost with the machine: everything is kept on the disk, in as few files as can be. */
const SETTINGS = ["listen_addresses = ''", 'shared_buffers = 16MB', 'checkpoint_timeout = 1h', 'max_wal_size = 1GB'];

export class Cluster {
  readonly data: string;
  readonly #sockets: string;
  readonly #log: string;

  /** @param folder of the file system that holds the cluster; @param outside a folder for the socket and the log */
  constructor(folder: string, outside: string) {
    this.data = path.join(folder, 'data');
    this.#sockets = outside;
    this.#log = path.join(outside, 'postgres.log');
  }

  create(): void {
    const { uid, gid } = ordinaryUser();
    fs.mkdirSync(this.data, { mode: 0o700 });
    fs.chownSync(this.data, uid, gid);
    const options = ['--username=postgres', '--auth=trust', '--wal-segsize=1', '--no-locale', '--encoding=UTF8'];
    runAsOrdinaryUser([program('initdb'), '--pgdata', this.data, ...options]);
    fs.appendFileSync(path.join(this.data, 'postgresql.conf'), `${SETTINGS.join('\n')}\n`);
  }

  /** Runs `body` while the server runs. Returns with it stopped, in order or, if `mode` is `immediate`, as by a crash. */
  async whileRunning(body: () => void | Promise<void>, mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    const control = [program('pg_ctl'), '--pgdata', this.data, '--wait', '--timeout=60'];
    const options = ['--log', this.#log, '--options', `-k ${this.#sockets}`];
    const { status, stderr } = tryAsOrdinaryUser([...control, ...options, 'start']);
    if (status !== 0) throw new Error(`${stderr}${this.log()}`);
    let failed = true;
    try {
      await body();
      failed = false;
    } finally {
      runAsOrdinaryUser([...control, '--mode', failed ? 'immediate' : mode, 'stop']);
    }
  }

  /** Runs one of the programs that connect to the server. */
  run(name: string, ...args: string[]): string {
    return runAsOrdinaryUser(this.#command(name, args));
  }

  /** As `run`, beside others. */
  start(name: string, ...args: string[]): Promise<string> {
    const [command = '', ...rest] = [...asOrdinaryUser(), ...this.#command(name, args)];
    return startCommand(command, rest);
  }

  query(sql: string): string {
    return this.run('psql', '--no-psqlrc', '--tuples-only', '--no-align', '--command', sql, 'postgres').trim();
  }

  log(): string {
    return fs.readFileSync(this.#log, 'utf8');
  }

  /** Sends a signal to all processes of the server: they work in its folder. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      if (workingDirectory(pid) === this.data) process.kill(Number(pid), signal);
    }
  }

  #command(name: string, args: readonly string[]): string[] {
    return [program(name), '--host', this.#sockets, '--username', 'postgres', ...args];
  }
}

function program(name: string): string {
  const version = fs.readdirSync(VERSIONS).sort().at(-1) ?? '';
  return path.join(VERSIONS, version, 'bin', name);
}

function workingDirectory(pid: string): string | undefined {
  try {
    return fs.readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    // It has ended since the listing.
    return undefined;
  }
}
