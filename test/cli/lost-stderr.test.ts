/** What cannot be told: a stderr that cannot be written changes nothing of what is done. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { isMountpoint } from '../daemon/mounting.ts';
import { withExec } from '../exec/exec-place.ts';
import { expectWholeImage } from '../oracle/exported.ts';
import { trueStates } from '../oracle/truth.ts';
import { withScratchPlace } from '../scratch/scratch-place.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { type CommandResult, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** A file without room, and a pipe that nobody reads. */
const STREAMS = {
  'a full disk': '"$@" 2>/dev/full',
  'a pipe without reader':
    'exec 3>&1; { sleep 0.2; "$@" 2>&1 >&3; echo $? >"$STATUS"; } | true; exit "$(cat "$STATUS")"',
} as const;

const words = Object.keys(STREAMS) as (keyof typeof STREAMS)[];

function runWithout(stream: keyof typeof STREAMS, folder: string, args: readonly string[], env = {}): CommandResult {
  const options = { env: { STATUS: `${folder}/status`, ...env } };
  const result = tryCommand('sh', ['-c', STREAMS[stream], 'sh', QCOW2FS, ...args], options);
  fs.rmSync(`${folder}/status`, { force: true });
  return result;
}

describe.each(words)('where stderr is %s', (stream) => {
  test('an export is whole, and ends as it would', () =>
    withTemporaryFolder((folder) => {
      const [image, file] = [`${folder}/shop.qcow2`, `${folder}/monday.qcow2`];
      fs.copyFileSync(weekImagePath, image);
      const { status, stdout } = runWithout(stream, folder, ['export', image, 'monday', file]);
      expect([status, stdout.split(':')[0]]).toEqual([0, file]);
      const monday = trueStates(image, folder).find(({ snapshot }) => snapshot?.name === 'monday');
      expectWholeImage(file, monday?.rawPath ?? '');
    }));

  test.each([
    ['wrong usage', 2, ['list']],
    ['a missing image', 1, ['list', 'gone.qcow2']],
  ] as const)('%s ends with %d', (_, status, args) =>
    withTemporaryFolder((folder) => {
      expect(runWithout(stream, folder, args)).toMatchObject({ status, stdout: '' });
    }),
  );

  test('a mount ends', () =>
    withScratchPlace(async ({ folder, mount, mountpoint }) => {
      mount();
      expect(runWithout(stream, folder, ['umount', mountpoint]).status).toBe(0);
      expect(isMountpoint(mountpoint)).toBe(false);
      // It says that nothing is mounted.
      expect(runWithout(stream, folder, ['umount', mountpoint]).status).toBe(0);
    }));

  test('a command is run, and nothing is left of it', () =>
    withExec(({ folder, temporary }) => {
      const image = `${folder}/shop.qcow2`;
      fs.copyFileSync(weekImagePath, image);
      const env = { TMPDIR: temporary };
      // Its own stderr cannot be written either.
      const run = (...command: string[]) =>
        runWithout(stream, folder, ['exec', image, 'thursday', 'p1', '--', ...command], env);
      expect(run('sh', '-c', 'cat notes.txt >/dev/null && exit 42').status).toBe(42);
      expect(run('no-such-command').status).toBe(127);
      expect(runWithout(stream, folder, ['exec', image, 'gone', '--', 'true'], env).status).toBe(125);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));
});
