/** Nothing of `qcow2fs exec` is left, however it ends. */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { hasEnded } from '../../src/daemon/find-daemons.ts';
import { weekImagePath } from '../../src/demo/week.ts';
import { Random } from '../oracle/random.ts';
import { processesNaming } from '../support/leftovers.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { typeOnTerminal } from '../support/terminal.ts';
import { type ExecPlace, expectNothingLeft, type StartedExec, whileUnchanged, withExec } from './exec-place.ts';

/** Longer than any test. */
const FOR_EVER = '1000000';
const KILL_COUNT = 15;
/** A start takes about a second on a busy machine. */
const LATEST_KILL_MS = 1500;

/** Writes, and leaves processes behind that nobody waits for, one of them in a session of its own. */
const RESTLESS = `sleep ${FOR_EVER} & setsid sleep ${FOR_EVER} & echo ready; while :; do echo written >> file; sync; done`;

function withWeek(body: (place: ExecPlace, image: string) => void | Promise<void>): Promise<void> {
  return withExec(async (place) => {
    const image = `${place.folder}/shop.qcow2`;
    fs.copyFileSync(weekImagePath, image);
    await whileUnchanged(image, () => body(place, image));
  });
}

async function untilReady({ output, process }: StartedExec): Promise<void> {
  while (!output().includes('ready')) {
    if (process.exitCode !== null) throw new Error(output());
    await sleep(10);
  }
}

/** Those that a process has started, and those that they have; the outer ones last. */
function processesBelow(parent: number): { readonly pid: number; readonly command: string }[] {
  const rows = runCommand('ps', ['-e', '-o', 'pid=,ppid=,args=']).split('\n');
  const children = rows.flatMap((row) => {
    const [, pid, ppid, command = ''] = /^ *(\d+) +(\d+) (.*)$/.exec(row) ?? [];
    return Number(ppid) === parent ? [{ pid: Number(pid), command }] : [];
  });
  return children.flatMap((child) => [...processesBelow(child.pid), child]);
}

describe('nothing is left', () => {
  test('when the command has left processes behind, with our output open', () =>
    withWeek(async ({ exec, temporary }, image) => {
      const { status, stdout } = exec([image, 'monday', '--', 'sh', '-c', RESTLESS.replace(/while.*/, 'exit 3')]);
      expect([status, stdout]).toEqual([3, 'ready\n']);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));

  test.each([
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('when we get %s, which is passed on to the command', (signal, status) =>
    withWeek(async ({ start, temporary }, image) => {
      const started = start([image, 'monday', '--', 'sh', '-c', RESTLESS]);
      await untilReady(started);
      started.process.kill(signal);
      expect(await started.ended).toBe(status);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }),
  );

  test('when the command makes something else of SIGTERM', () =>
    withWeek(async ({ start }, image) => {
      const script = `trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done`;
      const started = start([image, 'monday', '--', 'sh', '-c', script]);
      await untilReady(started);
      started.process.kill('SIGTERM');
      expect(await started.ended).toBe(7);
      expect(started.output()).toContain('caught');
    }));

  test('when we are told to stop before we know that the command runs', () =>
    withWeek(async ({ start }, image) => {
      const script = `trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done`;
      const started = start([image, 'monday', '--', 'sh', '-c', script]);
      const pid = started.process.pid ?? 0;
      while (!processesBelow(pid).some(({ command }) => command.includes('exec/inside-main.js'))) await sleep(1);
      // Its messages wait until we go on.
      started.process.kill('SIGSTOP');
      await untilReady(started);
      started.process.kill('SIGTERM');
      started.process.kill('SIGCONT');
      expect(await started.ended).toBe(7);
    }));

  test('when we are told to stop before the command was started', () =>
    withWeek(async ({ start, temporary }, image) => {
      const random = new Random(5);
      for (let count = 0; count < KILL_COUNT; count++) {
        const started = start([image, 'monday', '--', 'sh', '-c', RESTLESS]);
        await sleep(200 + random.below(600));
        started.process.kill('SIGTERM');
        // Before our own handler there is the usual one.
        expect([143, 'SIGTERM']).toContain(await started.ended);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }
    }));

  test('but an empty folder when we are killed, at any moment', () =>
    withWeek(async ({ start, temporary }, image) => {
      const random = new Random(7);
      for (let count = 0; count < KILL_COUNT; count++) {
        const started = start([image, 'monday', '--', 'sh', '-c', RESTLESS]);
        await sleep(random.below(LATEST_KILL_MS));
        started.process.kill('SIGKILL');
        await expectNothingLeft(temporary);
        await started.ended;
      }
      expect(fs.readdirSync(temporary).length).toBeLessThanOrEqual(KILL_COUNT);
    }));

  test('when the daemon is killed: the command is ended', () =>
    withWeek(async ({ start }, image) => {
      const started = start([image, 'monday', '--', 'sh', '-c', RESTLESS]);
      await untilReady(started);
      const daemon = processesNaming(`${image}`.replace(/\/[^/]*$/, '')).find((line) =>
        line.includes('daemon/main.js'),
      );
      const pid = Number(daemon?.split(':', 1)[0]);
      process.kill(pid, 'SIGKILL');
      expect(await started.ended).toBe(125);
      expect(hasEnded(pid)).toBe(true);
      expect(started.output()).toContain('the process that shows the state has ended');
    }));

  test.each(['exec/inside-main.js', 'unshare --mount --propagation slave --pid', `sleep ${FOR_EVER}`])(
    'when %s is killed',
    (name) =>
      withWeek(async ({ start, temporary }, image) => {
        const started = start([image, 'monday', '--', 'sh', '-c', `echo ready; exec sleep ${FOR_EVER}`]);
        await untilReady(started);
        const pid = processesBelow(started.process.pid ?? 0).find((each) => each.command.includes(name))?.pid;
        if (pid === undefined) throw new Error(`there is no process ${name}`);
        process.kill(pid, 'SIGKILL');
        const isCommand = name.startsWith('sleep');
        expect(await started.ended).toBe(isCommand ? 137 : 125);
        expect(fs.readdirSync(temporary)).toEqual([]);
      }),
  );

  test('when the image is pulled away', () =>
    withExec(async ({ folder, start, temporary }) => {
      const image = `${folder}/shop.qcow2`;
      fs.copyFileSync(weekImagePath, image);
      const started = start([image, 'monday', '--', 'sh', '-c', RESTLESS]);
      await untilReady(started);
      fs.truncateSync(image, 0);
      fs.rmSync(image);
      await sleep(500);
      started.process.kill('SIGTERM');
      expect(await started.ended).toBe(143);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));
});

describe('on a terminal', () => {
  // The commands start with `exec env`: script(1) runs them by $SHELL or sh, and a dash that waits for its child ends with the SIGINT itself.
  test('Ctrl-C is for the command, and we wait for it', () =>
    withWeek(async ({ temporary }, image) => {
      const script = `trap "sleep 0.3; echo caught; exit 9" INT; echo ready: go; while :; do sleep 0.1; done`;
      const command = `exec env TMPDIR=${temporary} ${QCOW2FS} exec ${image} monday -- sh -c '${script}'`;
      const { output, status } = await typeOnTerminal(command, '\x03');
      expect(output).toContain('caught');
      expect(status, output).toBe(9);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));

  test('Ctrl-C ends a command that does nothing about it', () =>
    withWeek(async ({ temporary }, image) => {
      const command = `exec env TMPDIR=${temporary} ${QCOW2FS} exec ${image} monday -- sh -c 'echo ready: go; exec sleep ${FOR_EVER}'`;
      expect((await typeOnTerminal(command, '\x03')).status).toBe(130);
    }));

  test('a shell has its jobs', () =>
    withWeek(async ({ temporary }, image) => {
      const command = `exec env PS1='prompt: ' TMPDIR=${temporary} ${QCOW2FS} exec ${image} monday -- bash --norc -i`;
      const lines = [
        // Of proc(5): the process group, and the one that has the terminal.
        `sleep ${FOR_EVER} & kill -STOP %1; sleep 0.2; jobs; ls; cut -d ' ' -f 5,8 /proc/self/stat\n`,
        // The first time it says that there are stopped jobs.
        'exit 5\nexit 5\n',
      ];
      const { output, status } = await typeOnTerminal(command, ...lines);
      expect(output).not.toContain('no job control');
      expect(output).toMatch(/Stopped +sleep/);
      expect(output).toContain('shop.db');
      const [, group, foreground] = /^([1-9]\d*) (\d+)\r$/m.exec(output) ?? [];
      expect(group).toBe(foreground);
      expect(group).toBeDefined();
      expect(status).toBe(5);
    }));
});
