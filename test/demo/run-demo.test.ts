import { type ChildProcessByStdio, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { describe, expect, test, vi } from 'vitest';
import { packageFolder } from '../../src/demo/week.ts';
import { mountsBelow, processesNaming } from '../support/leftovers.ts';
import { ordinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { copyInstalledPackage } from './package-copy.ts';

/** What the demo, the launcher and a mount call, `node` and `sh` aside. */
const TOOLS = [
  ...['cp', 'dd', 'dirname', 'head', 'ls', 'readlink', 'sha256sum', 'stat'],
  'cmp',
  ...['mount', 'umount'],
];

const COMMANDS = [
  '$ qcow2fs mount week.qcow2 mnt',
  '$ ls mnt mnt/current',
  '$ ls -l --time-style=long-iso mnt/snapshots',
  '/wednesday/disk.raw mnt/snapshots/thursday/disk.raw',
  '/thursday/disk.raw mnt/snapshots/friday/disk.raw differ: ',
  'Nov 19 22:15 shop cron[811]: job 000 done',
  '$ ls mnt/snapshots/thursday/volumes mnt/snapshots/thursday/volumes/by-label',
  '$ qcow2fs list --volumes --state thursday week.qcow2',
  "$ debugfs -R 'dump /shop.db thursday.db' mnt/snapshots/thursday/volumes/p1.raw",
  '$ sha256sum thursday.db',
  '$ cp --sparse=auto mnt/snapshots/sunday/disk.raw sunday.raw',
  '$ sha256sum mnt/current/disk.raw mnt/snapshots/*/disk.raw',
  '$ sha256sum week.qcow2',
  '$ qcow2fs umount mnt',
  'Done: every byte is what QEMU reads in this image',
];

describe('qcow2fs demo', () => {
  test('does the main job with the commands a user would type', () =>
    withDemo({}, async (demo) => {
      expect(await demo.ended).toEqual({ status: 0, signal: null });
      expect(demo.stderr()).toBe('');
      const places = COMMANDS.map((command) => demo.stdout().indexOf(command));
      expect(places).not.toContain(-1);
      expect(places).toEqual([...places].sort((one, other) => one - other));
    }));

  test('needs nothing but Node.js, a shell, coreutils, diffutils and util-linux', () =>
    withTools(TOOLS, (searchPath) =>
      withDemo({ searchPath }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 0, signal: null });
        expect(demo.stdout()).toContain('$ dd if=mnt/snapshots/thursday/volumes/p1.raw');
        expect(demo.stdout()).toContain('sqlite3 is not installed');
      }),
    ));

  test('runs from an installed package', () =>
    withInstalledPackage((root) =>
      withDemo({ root }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 0, signal: null });
      }),
    ));

  // Ctrl-C reaches every process of the terminal's foreground; these moments are a mount that is just being made, a
  // comparison and a copy. Much is left to do after each, so the signal always comes in the middle.
  test.each(['$ qcow2fs mount', '$ cmp ', '$ cp '])('ends by SIGINT, with nothing left, after "%s"', (command) =>
    withDemo({}, async (demo) => {
      await demo.printed(command);
      process.kill(-demo.pid, 'SIGINT');
      expect(await demo.ended).toEqual({ status: null, signal: 'SIGINT' });
      expect(demo.stdout()).not.toContain('Done');
    }),
  );

  test.each(['SIGTERM', 'SIGHUP'] as const)('ends by %s, with nothing left', (signal) =>
    withDemo({}, async (demo) => {
      await demo.printed('$ cmp ');
      process.kill(demo.pid, signal);
      expect(await demo.ended).toEqual({ status: null, signal });
    }),
  );

  test('ends when nobody reads its output any more', () =>
    withDemo({}, async (demo) => {
      await demo.printed('$ cmp ');
      demo.closeStdout();
      expect(await demo.ended).toEqual({ status: 1, signal: null });
      expect(demo.stderr()).toContain('cannot write to stdout');
    }));

  test('fails when the image has another byte in a state', () =>
    withInstalledPackage(async (root) => {
      // A line of notes.txt.
      changeImage(root, (image) => image.write('niGht', image.indexOf('2026-11-18 night') + 11, 'latin1'));
      await withDemo({ root }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 1, signal: null });
        expect(demo.stderr()).toContain('the sha256 of every state is that of QEMU');
      });
    }));

  test('fails when a state has another size than it should have', () =>
    withInstalledPackage(async (root) => {
      changeWeek(root, (week) => {
        for (const state of week.states.filter(({ name }) => name === 'tuesday')) state.virtualSizeBytes += 512;
      });
      await withDemo({ root }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 1, signal: null });
        expect(demo.stderr()).toContain('the size of every state is that of QEMU');
      });
    }));

  test('fails in one line when the image cannot be mounted', () =>
    withInstalledPackage(async (root) => {
      changeImage(root, (image) => image.write('no qcow2', 0, 'latin1'));
      await withDemo({ root }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 1, signal: null });
        expect(demo.stderr()).toMatch(/^qcow2fs: demo: `qcow2fs mount week\.qcow2 mnt` ended with 1.*\n$/);
      });
    }));

  test('needs no root', () =>
    withInstalledPackage((root) =>
      withDemo({ root, uid: ordinaryUser().uid }, async (demo) => {
        expect(await demo.ended).toEqual({ status: 0, signal: null });
        expect(demo.stderr()).toBe('');
        expect(demo.stdout()).toContain('Done: every byte is what QEMU reads in this image');
      }),
    ));
});

interface DemoOptions {
  /** Where the package is: this checkout unless given. */
  readonly root?: string;
  readonly uid?: number;
  /** PATH: this process's own unless given. */
  readonly searchPath?: string;
}

class Demo {
  readonly pid: number;
  readonly ended: Promise<{ status: number | null; signal: NodeJS.Signals | null }>;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  #stdout = '';
  #stderr = '';

  constructor({ root = packageFolder, uid = 0, searchPath = process.env.PATH }: DemoOptions, folder: string) {
    this.#child = spawn(path.join(root, 'bin/qcow2fs'), ['demo'], {
      // A process group of its own, as a shell gives it: the test sends signals to the group.
      detached: true,
      uid,
      env: { ...process.env, PATH: searchPath, TMPDIR: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.pid = this.#child.pid ?? Number.NaN;
    this.ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (status, signal) => resolve({ status, signal }));
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text) => {
      this.#stdout += text;
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#stderr += text;
    });
  }

  stdout(): string {
    return this.#stdout;
  }

  stderr(): string {
    return this.#stderr;
  }

  /** Resolves as soon as `text` is in the output; rejects if the demo ends without. */
  async printed(text: string): Promise<void> {
    const seen = new Promise<void>((resolve) => {
      this.#child.stdout.on('data', () => this.#stdout.includes(text) && resolve());
    });
    await Promise.race([
      seen,
      this.ended.then(() => {
        throw new Error(`The demo ended without "${text}": ${this.#stdout}${this.#stderr}`);
      }),
    ]);
  }

  closeStdout(): void {
    this.#child.stdout.destroy();
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    await this.ended;
  }
}

/** Starts the demo with an empty folder for its temporary files; whatever `body` does, nothing may be left there. */
async function withDemo(options: DemoOptions, body: (demo: Demo) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    if (options.uid !== undefined) fs.chownSync(folder, options.uid, -1);
    const demo = new Demo(options, folder);
    try {
      await body(demo);
    } finally {
      await demo.kill();
    }
    // A daemon ends just after its mount.
    await vi.waitFor(() => expect(leftovers(folder)).toEqual([]), { timeout: 10_000 });
  });
}

function leftovers(folder: string): string[] {
  return [...fs.readdirSync(folder), ...mountsBelow(folder), ...processesNaming(folder)];
}

/** Runs `body` with a PATH that has `node`, `sh` and these tools only. */
async function withTools(tools: readonly string[], body: (searchPath: string) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    for (const tool of ['node', 'sh', ...tools]) {
      fs.symlinkSync(runCommand('which', [tool]).trimEnd(), path.join(folder, tool));
    }
    await body(folder);
  });
}

async function withInstalledPackage(body: (root: string) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    // Other users may run it.
    fs.chmodSync(folder, 0o755);
    copyInstalledPackage(folder);
    await body(folder);
  });
}

function changeImage(root: string, change: (image: Buffer) => unknown): void {
  const file = path.join(root, 'src/demo/week.qcow2');
  const image = fs.readFileSync(file);
  change(image);
  fs.writeFileSync(file, image);
}

function changeWeek(
  root: string,
  change: (week: { states: { name: string; virtualSizeBytes: number }[] }) => void,
): void {
  const file = path.join(root, 'src/demo/week.json');
  const week = JSON.parse(fs.readFileSync(file, 'utf8'));
  change(week);
  fs.writeFileSync(file, JSON.stringify(week));
}
