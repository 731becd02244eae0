/** The bench works, and leaves nothing behind. How fast anything is, is no test's business. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { loopDevicesBelow, mountsBelow, processesNaming } from '../support/leftovers.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const BENCH = path.join(import.meta.dirname, 'bench.mjs');
/** Two cases with snapshots, compression and a loop mount, and one that starts servers. */
const ONLY = 'zstd: sha256|2 snapshots|ext4|plain: memory';
const MAX_RUN_MS = 300_000;

/** What `--json` writes, as far as it is looked at. */
interface Report {
  readonly rows: readonly {
    readonly group: string;
    readonly results: Readonly<Record<string, { readonly median?: number; readonly missing?: string }>>;
  }[];
}

function expectNothingLeft(folder: string): void {
  expect(mountsBelow(folder)).toEqual([]);
  expect(loopDevicesBelow(folder)).toEqual([]);
  expect(processesNaming(folder)).toEqual([]);
  expect(fs.readdirSync(folder)).toEqual([]);
}

test(
  'a quick run measures qcow2fs and QEMU, and says why others are left out',
  () =>
    withTemporaryFolder((folder) => {
      const json = path.join(folder, 'report.json');
      const { status, stdout, stderr } = tryCommand('node', [BENCH, '--quick', '--only', ONLY, '--json', json], {
        env: { ...process.env, TMPDIR: folder },
        timeoutMs: MAX_RUN_MS,
      });
      expect(status, stderr).toBe(0);
      const { rows } = JSON.parse(fs.readFileSync(json, 'utf8')) as Report;
      expect(rows.map(({ group }) => group)).toEqual(['plain', 'zstd', 'ext4, 20,000 files', '2 snapshots', 'all']);
      for (const { group, results } of rows) {
        expect(results.qcow2fs?.median, group).toBeGreaterThan(0);
        for (const [peer, { median, missing }] of Object.entries(results)) {
          expect([typeof median, typeof missing].sort(), `${group}, ${peer}`).toContain('undefined');
          expect(median ?? missing, `${group}, ${peer}`).toBeTruthy();
        }
      }
      expect(rows[1]?.results['qemu-storage-daemon']?.median).toBeGreaterThan(0);
      expect(rows[3]?.results['qemu-storage-daemon']?.missing).toBe('it shows the current state only');
      expect(stdout).toContain('**zstd**');
      fs.rmSync(json);
      expectNothingLeft(folder);
    }),
  2 * MAX_RUN_MS,
);

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends it with nothing left behind', (signal) =>
  withTemporaryFolder(async (folder) => {
    const child = spawn('node', [BENCH, '--quick', '--only', 'plain'], {
      env: { ...process.env, TMPDIR: folder },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    let isTold = false;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      // All servers are there then. Once: what comes while the process ends would be the end of it.
      if (!isTold && said.includes('plain: sequential, buffered')) isTold = child.kill(signal);
    });
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(1);
    expect(said).toContain(`bench: interrupted by ${signal}`);
    expectNothingLeft(folder);
  }),
);

test.each([
  [['--write', '--quick'], 'only a full run is worth writing'],
  [['--only', 'there is no such thing'], 'nothing matches --only'],
])('%j is refused', (args, message) => {
  const { status, stderr } = tryCommand('node', [BENCH, ...args]);
  expect(status).toBe(1);
  expect(stderr).toContain(message);
});
