/** Signals for `qcow2fs exec` and for its whole process group, as a terminal sends them: nothing is left, whenever they come. */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { hasEnded } from '../../src/daemon/find-daemons.ts';
import { weekImagePath } from '../../src/demo/week.ts';
import { Random } from '../oracle/random.ts';
import { processesNaming } from '../support/leftovers.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { typeOnTerminal } from '../support/terminal.ts';
import { type ExecPlace, expectNothingLeft, type StartedExec, whileUnchanged, withExec } from './exec-place.ts';

/** Longer than any test. */
const FOR_EVER = '1000000';
const ROUND_COUNT = 4;
/** A start takes about a second on a busy machine. */
const LATEST_SIGNAL_MS = 1000;
const PATIENCE_MS = 10_000;

function withWeek(body: (place: ExecPlace, image: string) => void | Promise<void>): Promise<void> {
  return withExec(async (place) => {
    const image = `${place.folder}/shop.qcow2`;
    fs.copyFileSync(weekImagePath, image);
    await whileUnchanged(image, () => body(place, image));
  });
}

/** The process that mounts and runs the command, as soon as there is one. */
function untilInside(started: StartedExec, temporary: string): Promise<number> {
  return untilThereIs(/^\d+: \S*node \S*exec\/inside-main\.js /, started, temporary);
}

/** The process with this command line. */
async function untilThereIs(pattern: RegExp, { process }: StartedExec, temporary: string): Promise<number> {
  while (process.exitCode === null) {
    const line = processesNaming(temporary).find((each) => pattern.test(each));
    if (line !== undefined) return Number(line.split(':', 1)[0]);
    await sleep(1);
  }
  throw new Error('it has ended');
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: PATIENCE_MS, interval: 5 }).toBe(true);
}

function toGroup({ process: { pid } }: StartedExec, signal: NodeJS.Signals): void {
  if (pid === undefined) throw new Error('it was not started');
  process.kill(-pid, signal);
}

describe('before the command was started', () => {
  test.each([
    [['SIGINT'], [130]],
    [['SIGQUIT'], [131]],
    // The kernel does not keep their order: another thread may take the second one.
    [
      ['SIGINT', 'SIGTERM'],
      [130, 143],
    ],
    [
      ['SIGQUIT', 'SIGHUP', 'SIGINT'],
      [129, 130, 131],
    ],
  ] as const)('%j for all is what it ends with, and nothing is said', (signals, statuses) =>
    withWeek(async ({ start, temporary }, image) => {
      for (let count = 0; count < ROUND_COUNT; count++) {
        const started = start([image, 'monday', 'p1', '--', 'sleep', FOR_EVER]);
        await untilInside(started, temporary);
        for (const signal of signals) toGroup(started, signal);
        expect(statuses).toContain(await started.ended);
        expect(started.output()).toBe('');
        await expectNothingLeft(temporary);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }
    }),
  );

  test('one that ends the daemon as well', () =>
    withWeek(async ({ start, temporary }, image) => {
      const started = start([image, 'monday', 'p1', '--', 'sleep', FOR_EVER]);
      const daemon = await untilThereIs(/^\d+: \S*node .*daemon\/main\.js /, started, temporary);
      for (const [pid, signal] of [
        [daemon, 'SIGSTOP'],
        [started.process.pid ?? 0, 'SIGINT'],
        [daemon, 'SIGKILL'],
      ] as const)
        process.kill(pid, signal);
      expect([await started.ended, started.output()]).toEqual([130, '']);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));

  test('two in a row at any moment leave nothing', () =>
    withWeek(async ({ start, temporary }, image) => {
      const random = new Random(11);
      for (let count = 0; count < 2 * ROUND_COUNT; count++) {
        const started = start([image, 'monday', 'p1', '--', 'sleep', FOR_EVER]);
        await sleep(random.below(LATEST_SIGNAL_MS));
        toGroup(started, 'SIGINT');
        await sleep(random.below(200));
        if (started.process.exitCode === null && started.process.signalCode === null) toGroup(started, 'SIGTERM');
        // Outside of our own handlers there are the usual ones.
        expect([130, 143, 'SIGINT', 'SIGTERM']).toContain(await started.ended);
        expect(started.output()).toBe('');
        await expectNothingLeft(temporary);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }
    }));

  // Which of the two takes it first is up to the kernel.
  test.each(['both processes', 'the one inside'])(
    'a key that is pressed just before it is not lost, told by %s',
    (who) =>
      withWeek(async ({ folder, start, temporary }, image) => {
        const programs = `${folder}/programs`;
        fs.mkdirSync(programs);
        const wait = `: >"${folder}/mounting"; until [ -e "${folder}/go" ]; do sleep 0.01; done`;
        // Of that of the volume only.
        const script = `#!/bin/sh\nPATH=\${PATH#*:}\ncase "$*" in *loop*) ${wait} ;; esac\nexec mount "$@"\n`;
        fs.writeFileSync(`${programs}/mount`, script, { mode: 0o755 });
        const words = [image, 'monday', 'p1', '--', 'sleep', FOR_EVER];
        const started = start(words, { PATH: `${programs}:${process.env.PATH}` });
        const inside = await untilInside(started, temporary);
        await until(() => fs.existsSync(`${folder}/mounting`));
        // What it passes on comes when the command runs.
        started.process.kill('SIGSTOP');
        if (who === 'both processes') started.process.kill('SIGINT');
        process.kill(inside, 'SIGINT');
        fs.writeFileSync(`${folder}/go`, '');
        await until(() => hasEnded(inside));
        started.process.kill('SIGCONT');
        expect([await started.ended, started.output()]).toEqual([130, '']);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }),
  );
});

describe('while the command runs', () => {
  test('its exit code is the result, also where we notice the signal after its end', () =>
    withWeek(async ({ start, temporary }, image) => {
      for (const [signal, status] of [
        ['SIGINT', 9],
        ['SIGQUIT', 8],
      ] as const) {
        const script = `trap 'exit 9' INT; trap 'exit 8' QUIT; sleep ${FOR_EVER} & echo ready; wait`;
        const started = start([image, 'monday', '--', 'sh', '-c', script]);
        const inside = await untilInside(started, temporary);
        await until(() => started.output().includes('ready'));
        started.process.kill('SIGSTOP');
        toGroup(started, signal);
        await until(() => hasEnded(inside));
        started.process.kill('SIGCONT');
        expect([await started.ended, started.output()]).toEqual([status, 'ready\n']);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }
    }));

  test('a signal that nobody inside has read is the reason for the end', () =>
    withWeek(async ({ start, temporary }, image) => {
      const started = start([image, 'monday', '--', 'sh', '-c', `echo ready; exec sleep ${FOR_EVER}`]);
      const inside = await untilInside(started, temporary);
      await until(() => started.output().includes('ready'));
      process.kill(inside, 'SIGSTOP');
      started.process.kill('SIGTERM');
      // Until it has passed it on.
      await sleep(300);
      process.kill(inside, 'SIGKILL');
      expect([await started.ended, started.output()]).toEqual([143, 'ready\n']);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));
});

describe('on a terminal', () => {
  // `exec env`: as in teardown.test.ts.
  test.each([
    ['Ctrl-C', '\x03', 'INT', 130],
    ['Ctrl-\\', '\x1c', 'QUIT', 131],
  ])('%s is for the command', (_, key, name, status) =>
    withWeek(async ({ temporary }, image) => {
      const run = (script: string) =>
        typeOnTerminal(`exec env TMPDIR=${temporary} ${QCOW2FS} exec ${image} monday -- sh -c '${script}'`, key);
      const caught = await run(`trap "exit 9" ${name}; echo ready: go; while :; do sleep 0.1; done`);
      expect(caught.status, caught.output).toBe(9);
      const ended = await run(`ulimit -c 0; echo ready: go; exec sleep ${FOR_EVER}`);
      expect(ended.status, ended.output).toBe(status);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }),
  );
});
