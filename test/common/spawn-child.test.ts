/** In a process of its own, which has too many files open. */

import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

const DIST = new URL('../../dist/', import.meta.url).href;
const PROGRAM = `
  import fs from 'node:fs';
  import { spawnChild } from '${DIST}common/spawn-child.js';
  import { runProgram } from '${DIST}exec/run-program.js';
  import { runTool } from '${DIST}fuse/run-tool.js';
  import { startCommand } from '${DIST}exec/run-command.js';
  import { startWatchdog } from '${DIST}fuse/watchdog.js';

  try {
    while (true) fs.openSync('/dev/null');
  } catch {}
`;

/** What `step` prints where no more file can be opened. */
function withoutDescriptors(step: string): string {
  const node = [process.execPath, '--input-type=module', '-e', `${PROGRAM}${step}`];
  const { status, stdout, stderr } = spawnSync('prlimit', ['--nofile=100', ...node], { encoding: 'utf8' });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return `${stdout}${stderr}`;
}

test.each(["(async () => spawnChild('true'))()", "runProgram('true', [])", "runTool('true', ['/nowhere'])"])(
  'a child without streams is an error that says why: %s',
  (start) => {
    const printed = withoutDescriptors(`await ${start}.catch(({ code, message }) => console.log(code, message));`);
    expect(printed).toMatch(/^IO true cannot be run: too many files are open \(ulimit -n .*\)\n$/);
  },
);

test('without a watchdog there is a warning, and the mount is served', () => {
  const mount = JSON.stringify({ device: '0:1', mountpoint: '/nowhere', escapedMountpoint: '/nowhere' });
  expect(withoutDescriptors(`startWatchdog(${mount}); console.log('served');`)).toMatch(
    /^served\n.*no watchdog, a killed daemon will leave its mount behind: \/bin\/sh cannot be run: too many files are open/,
  );
});

test("a command that cannot be run is one as for env(1), and a signal for it is nobody else's", () => {
  const printed = withoutDescriptors(`
    const command = startCommand(['true'], '/');
    command.kill('SIGTERM');
    console.log(await command.exitCode);`);
  expect(printed).toMatch(/^126\n.*true cannot be run: spawn true EMFILE/);
});
