/** Short races against a running machine. `npm run race` has longer ones, and others. */

import { execFile } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ordinaryUser } from '../support/ordinary-user.ts';

const RACE = path.join(import.meta.dirname, 'race.mjs');
const CYCLES = 70;
/** The race ends by itself, however the mount behaves; on SIGTERM it leaves nothing behind. */
const TIMEOUT_MS = 110_000;

/** What `race.mjs --json` prints, as far as it is looked at. */
interface RaceResult {
  readonly cycles: number;
  readonly twins: number;
  readonly snapshotsRead: number;
  readonly acceptedReads: number;
  readonly mappedReads: number;
  readonly wentStale: number;
  readonly details: readonly string[];
}

test.each([
  { transport: 'kernel', image: ['--base', 'compressed', '--vm-state'] },
  { transport: 'kernel-user', image: ['--base', 'backing', '--cluster-size', '4096', '--busy-mount'] },
  { transport: 'fuse-native', image: ['--base', 'empty', '--cache', 'none'] },
])(
  'a machine writes, creates and deletes snapshots: every read is right or refused ($transport, $image)',
  async (race) => {
    const { details, ...counts } = await runRace(['--transport', race.transport, ...race.image]);
    expect(details).toEqual([]);
    expect(counts.cycles).toBe(CYCLES);
    // It was a race: snapshots came, were read, and went while they were.
    for (const count of [counts.twins, counts.acceptedReads, counts.wentStale]) {
      expect(count).toBeGreaterThan(0);
    }
    // Without the page cache, as fuse-native may be, a file cannot be mapped.
    if (race.transport !== 'fuse-native') expect(counts.mappedReads).toBeGreaterThan(0);
    expect(counts.snapshotsRead).toBeGreaterThan(CYCLES / 10);
  },
);

function runRace(args: readonly string[]): Promise<RaceResult> {
  const all = [RACE, '--json', '--cycles', String(CYCLES), '--seed', '1', '--user', ordinaryUser().name, ...args];
  const options = { timeout: TIMEOUT_MS, env: { ...process.env, TMPDIR: os.tmpdir() } };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, all, options, (error, stdout, stderr) => {
      // With findings it fails, and prints them.
      if (stdout.startsWith('{')) resolve(JSON.parse(stdout) as RaceResult);
      else reject(new Error(stderr, { cause: error }));
    });
  });
}
