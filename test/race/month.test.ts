/** A month under one mount: every night the machine writes, the oldest snapshot goes and a new one comes. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { daemonOf, REAL_DAEMON, withPlace } from '../daemon/mounting.ts';
import { createSnapshot, deleteSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { Random } from '../oracle/random.ts';
import { runMachine } from '../oracle/vm-state.ts';
import {
  type DaemonResources,
  expectSameResources,
  residentBytes,
  resourcesOf,
  WORKER_BYTES,
} from '../support/daemon-resources.ts';
import { sha256OfFile } from '../support/hash.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';

const NIGHTS = 30;
const KEPT = 7;
const SEED = 1;
const DISK_BYTES = 8 * 1024 * 1024;
const UNIT_BYTES = 4096;
const WRITES_PER_NIGHT = 8;
const MAX_WRITE_UNITS = 64;
/** Caches fill, and garbage collection makes the resident size go up and down. */
const MAX_GROWTH_BYTES = 64 * 1024 * 1024;
/** Of it all, on a busy machine. */
const TIMEOUT_MS = 300_000;
const PATIENCE_MS = 10_000;
const READER = path.join(import.meta.dirname, 'month-reader.mjs');

/** A snapshot and what it holds: the disk as a raw file, written by QEMU as well. */
interface Day {
  readonly name: string;
  readonly rawPath: string;
}

test(`${NIGHTS} nights of snapshots under one mount`, { timeout: TIMEOUT_MS }, () =>
  withPlace(async ({ folder, mountpoint }) => {
    const month = new Month(folder);
    while (month.days.length < KEPT) month.night();
    await mountInBackground({ imagePaths: [month.image], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
    const reader = new Reader();
    const gone: string[] = [];
    let first: { resources: DaemonResources; bytes: number } | undefined;
    try {
      for (let night = 1; night <= NIGHTS; night++) {
        gone.push(diskOf(mountpoint, month.night()));
        await waitUntilListed(mountpoint, month.days);
        await reader.hold(diskOf(mountpoint, month.days.at(-1)));
        expectDays(mountpoint, month.days, path.join(folder, 'copy.raw'));
        expectHeld(await reader.check(), mountpoint, month.days, gone);
        first ??= inUse(daemonOf(mountpoint));
      }
    } finally {
      await reader.close();
    }
    const last = inUse(daemonOf(mountpoint));
    if (first === undefined) throw new Error('there was no night');
    expectSameResources(first.resources, last.resources);
    const workersAdded = last.resources.loopCount - first.resources.loopCount;
    expect(last.bytes - first.bytes).toBeLessThan(MAX_GROWTH_BYTES + workersAdded * WORKER_BYTES);
    await unmount(mountpoint);
  }),
);

/** The image, and the truth about it. */
class Month {
  readonly image: string;
  /** The snapshots that there are, oldest first. */
  readonly days: Day[] = [];
  readonly #folder: string;
  readonly #raw: string;
  readonly #random = new Random(SEED);
  #night = 0;

  /** Half of the disk is data that is compressed. */
  constructor(folder: string) {
    this.#folder = folder;
    this.#raw = path.join(folder, 'disk.raw');
    this.image = path.join(folder, 'disk.qcow2');
    fs.writeFileSync(this.#raw, this.#random.bytes(DISK_BYTES / 2));
    fs.truncateSync(this.#raw, DISK_BYTES);
    runCommand('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', this.#raw, this.image]);
  }

  /** Every other night the machine runs, the others it is qemu-io that writes. Returns the day that went. */
  night(): Day | undefined {
    this.#night += 1;
    const writes = Array.from({ length: WRITES_PER_NIGHT }, () => this.#write());
    if (this.#night % 2 === 0) runQemuIo(this.image, writes);
    else
      runMachine(
        this.image,
        writes.map((write) => `qemu-io disk "${write}"`),
      );
    runCommand('qemu-io', ['-f', 'raw', ...writes.flatMap((write) => ['-c', write]), this.#raw]);
    const oldest = this.days.length === KEPT ? this.days.shift() : undefined;
    if (oldest !== undefined) {
      deleteSnapshot(this.image, oldest.name);
      fs.rmSync(oldest.rawPath);
    }
    const name = `night ${this.#night}`;
    const rawPath = path.join(this.#folder, `${name}.raw`);
    createSnapshot(this.image, name);
    fs.copyFileSync(this.#raw, rawPath);
    this.days.push({ name, rawPath });
    return oldest;
  }

  #write(): string {
    const first = this.#random.below(DISK_BYTES / UNIT_BYTES);
    const count = Math.min(this.#random.length(MAX_WRITE_UNITS), DISK_BYTES / UNIT_BYTES - first);
    const what = this.#random.chance(0.2) ? '-z' : `-P ${this.#random.below(256)}`;
    return `write -q ${what} ${first * UNIT_BYTES} ${count * UNIT_BYTES}`;
  }
}

/** A process that keeps files open. */
class Reader {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor() {
    this.#child = spawn(process.execPath, [READER], { cwd: os.tmpdir(), stdio: ['pipe', 'pipe', 'inherit'] });
    if (this.#child.stdout === null) throw new Error('the reader has no pipe');
    this.#answers = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async hold(file: string): Promise<void> {
    await this.#ask(`hold ${file}`);
  }

  /** For each file the sha256 of what is read now, or the errno. */
  async check(): Promise<Record<string, string | number>> {
    return await this.#ask('check');
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await ended;
  }

  async #ask(request: string): Promise<Record<string, string | number>> {
    this.#child.stdin?.write(`${request}\n`);
    const { done, value } = await this.#answers.next();
    if (done) throw new Error(`the reader ended at: ${request}`);
    return JSON.parse(value);
  }
}

function diskOf(mountpoint: string, day: Day | undefined): string {
  return path.join(mountpoint, 'snapshots', day?.name ?? '', 'disk.raw');
}

/** The tree follows within a second; the rest is for a busy machine. */
async function waitUntilListed(mountpoint: string, days: readonly Day[]): Promise<void> {
  const wanted = days.map(({ name }) => name).sort();
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const listed = runCommand('ls', [path.join(mountpoint, 'snapshots')])
      .trimEnd()
      .split('\n')
      .sort();
    if (listed.join() === wanted.join()) return;
    if (Date.now() > deadline) throw new Error(`the tree has not followed: it lists ${listed}, not ${wanted}`);
    await sleep(20);
  }
}

/** Yesterday can be copied, and compared with any other day. */
function expectDays(mountpoint: string, days: readonly Day[], copy: string): void {
  const [oldest, yesterday] = [days[0], days.at(-2)];
  if (oldest === undefined || yesterday === undefined) throw new Error('there are no two days');
  runCommand('cp', ['--sparse=always', diskOf(mountpoint, yesterday), copy]);
  runCommand('cmp', [copy, yesterday.rawPath]);
  // All that differs, by place and value.
  const { stdout } = tryCommand('cmp', ['-l', diskOf(mountpoint, oldest), diskOf(mountpoint, yesterday)]);
  expect(stdout === tryCommand('cmp', ['-l', oldest.rawPath, yesterday.rawPath]).stdout, oldest.name).toBe(true);
}

function expectHeld(
  held: Record<string, string | number>,
  mountpoint: string,
  days: readonly Day[],
  gone: readonly string[],
): void {
  for (const day of days) {
    const file = diskOf(mountpoint, day);
    if (file in held) expect(held[file], file).toBe(sha256OfFile(day.rawPath));
  }
  for (const file of gone.filter((name) => name in held)) expect(held[file], file).toBe(os.constants.errno.ESTALE);
}

function inUse(pid: number) {
  return { resources: resourcesOf(pid), bytes: residentBytes(pid) };
}
