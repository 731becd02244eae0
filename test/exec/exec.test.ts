/** `qcow2fs exec`: what a command has and what becomes of it. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { type ExecPlace, whileUnchanged, withExec } from './exec-place.ts';

/** Runs `body` with a copy of the image of the demo, which stays as it is. */
function withWeek(body: (place: ExecPlace, image: string) => void | Promise<void>): Promise<void> {
  return withExec(async (place) => {
    const image = `${place.folder}/shop.qcow2`;
    fs.copyFileSync(weekImagePath, image);
    await whileUnchanged(image, () => body(place, image));
  });
}

describe('a command', () => {
  test('has the root of the file system as its working directory and in QCOW2FS_ROOT', () =>
    withWeek(({ exec, temporary }, image) => {
      const { status, stdout } = exec([
        image,
        'thursday',
        '--',
        'bash',
        '-c',
        'echo "$QCOW2FS_ROOT"; pwd; echo "$PWD"; ls',
      ]);
      const [root, ...others] = stdout.trimEnd().split('\n');
      expect(root).toMatch(new RegExp(`^${temporary}/`));
      expect(others).toEqual([root, root, 'lost+found', 'notes.txt', 'shop.db']);
      expect(status).toBe(0);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }));

  test.each([
    ['its exit code', ['sh', '-c', 'exit 42'], 42],
    ['128 and the number of the signal that ended it', ['sh', '-c', 'kill -TERM $$'], 143],
    ['128 and 9', ['sh', '-c', 'kill -KILL $$'], 137],
    ['126 if it cannot be run', ['./notes.txt'], 126],
    ['126 if there is no folder with it', ['./notes.txt/command'], 126],
    ['127 if it is not there', ['no-such-command'], 127],
  ])('ends with %s', (_, command, expected) =>
    withWeek(({ exec }, image) => {
      const { status, stderr } = exec([image, 'thursday', 'p1', '--', ...command]);
      expect(status).toBe(expected);
      if (expected === 126 || expected === 127) expect(stderr).toMatch(/^qcow2fs: [^\n]* cannot be run: [^\n]*\n$/);
    }),
  );

  test.each([
    [['--', 'IMAGE', 'thursday', 'p1', '--', 'ls', '--', 'notes.txt'], 'notes.txt\n'],
    [['--max-delta', '1G', '--', 'IMAGE', 'thursday', '--', 'ls', 'notes.txt'], 'notes.txt\n'],
    [['--each-snapshot', '--json', '--', 'IMAGE', '--', 'echo', '--'], '"lastLine": "--"'],
    [['IMAGE', 'thursday', 'p1', '--', 'ls', '--', 'notes.txt'], 'notes.txt\n'],
  ] as const)('of an image whose name begins with a hyphen: %j', (words, expected) =>
    withExec(({ folder, temporary }) => {
      const isFirst = words[0] === 'IMAGE';
      const name = isFirst ? './-d.qcow2' : '-d.qcow2';
      fs.copyFileSync(weekImagePath, `${folder}/-d.qcow2`);
      const args = ['exec', ...words.map((word) => (word === 'IMAGE' ? name : word))];
      const { status, stdout, stderr } = tryCommand(QCOW2FS, args, { cwd: folder, env: { TMPDIR: temporary } });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toContain(expected);
    }),
  );

  test('may have more words than fit in one argument, of any characters', () =>
    withWeek(({ exec }, image) => {
      const words = Array.from({ length: 30_000 }, (_, index) => `${index}\u2028 "Zürich"`);
      const { status, stdout, stderr } = exec([image, 'thursday', 'p1', '--', 'printf', '%s\n', ...words]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout === `${words.join('\n')}\n`).toBe(true);
    }));

  test('runs where TMPDIR is a relative path, with blanks', () =>
    withWeek(({ folder, temporary }, image) => {
      fs.mkdirSync(`${temporary}/with blanks`);
      const script = 'cd "$1"; TMPDIR="$2" exec "$3" exec "$4" thursday -- sh -c "echo new >new.txt; ls; pwd"';
      const relative = `${path.basename(temporary)}/with blanks`;
      const { status, stdout, stderr } = tryCommand('sh', ['-c', script, 'sh', folder, relative, QCOW2FS, image]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const lines = stdout.trimEnd().split('\n');
      expect(lines.slice(0, -1)).toEqual(['lost+found', 'new.txt', 'notes.txt', 'shop.db']);
      expect(path.dirname(lines.at(-1) ?? '')).toBe(`${temporary}/with blanks`);
    }));

  test('runs also where root is that of a user namespace', () =>
    withWeek(({ temporary }, image) => {
      const words = ['--user', '--map-root-user', '--', 'env', `TMPDIR=${temporary}`, QCOW2FS, 'exec', image];
      const { status, stdout, stderr } = tryCommand('unshare', [...words, 'thursday', '--', 'ls']);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout.trimEnd().split('\n')).toEqual(['lost+found', 'notes.txt', 'shop.db']);
    }));

  test('has options of its own, and a -- too', () =>
    withWeek(({ exec }, image) => {
      const words = ['--', '--json', '-V', '--version', '--help', '--'];
      const { stdout } = exec([image, 'thursday', '--', 'printf', '%s\n', ...words]);
      expect(stdout.trimEnd().split('\n')).toEqual(words);
    }));

  test('reads our standard input, and its two outputs are ours', () =>
    withWeek(({ exec }, image) => {
      const result = exec([image, 'thursday', '--', 'sh', '-c', 'cat; echo problem >&2'], { input: 'typed\n' });
      expect(result).toEqual({ status: 0, stdout: 'typed\n', stderr: 'problem\n' });
    }));

  test('sees the other files of the machine, and can write to them and to its own', () =>
    withWeek(({ exec, folder }, image) => {
      const script = 'echo new > notes.txt; cp notes.txt "$1"; sync; cat notes.txt';
      const { stdout } = exec([image, 'thursday', '--', 'sh', '-c', script, 'sh', `${folder}/copy`]);
      expect([stdout, fs.readFileSync(`${folder}/copy`, 'utf8')]).toEqual(['new\n', 'new\n']);
      // That was another view.
      expect(exec([image, 'thursday', '--', 'cat', 'notes.txt']).stdout).not.toContain('new');
    }));

  test('can say what is good and what is not', () =>
    withWeek(({ exec }, image) => {
      const check = (day: string) =>
        exec([image, day, 'p1', '--', 'sqlite3', 'shop.db', 'PRAGMA integrity_check']).stdout;
      expect(check('thursday')).toBe('ok\n');
      expect(check('friday')).not.toContain('ok\n');
    }));

  test('whose volume is full gets ENOSPC or EIO, and all else ends as usual', () =>
    withWeek(({ exec }, image) => {
      const write = 'dd if=/dev/urandom of=file bs=64k count=128 conv=fsync status=none';
      const { status, stderr } = exec(['--max-delta', '1M', image, 'thursday', '--', 'sh', '-c', write]);
      expect(status).toBe(1);
      expect(stderr).toMatch(/Input\/output error|No space left|Read-only file system/);
    }));
});

describe('a volume', () => {
  test('may be named by its label and by its UUID', () =>
    withWeek(({ exec }, image) => {
      const listed = JSON.parse(runCommand(QCOW2FS, ['list', '--volumes', '--json', '--state', 'monday', image]));
      const { label, uuid } = listed.states[0].volumes[0].fileSystem;
      expect([label, typeof uuid]).toEqual(['shop', 'string']);
      for (const name of ['p1', label, uuid, uuid.toUpperCase()]) {
        expect(exec([image, 'monday', name, '--', 'ls', 'shop.db'])).toMatchObject({ status: 0, stdout: 'shop.db\n' });
      }
    }));

  test('that is not there, and a state, and an image, are one line and 125', () =>
    withWeek(({ exec }, image) => {
      for (const [words, message] of [
        [[image, 'monday', 'p2'], /monday has no volume p2: it has p1 \(ext4, shop, 14680064 bytes\)/],
        [[image, 'nobody', 'p1'], /no snapshot is called nobody/],
        [[`${image}.gone`, 'monday', 'p1'], /shop\.qcow2\.gone/],
      ] as const) {
        const { status, stdout, stderr } = exec([...words, '--', 'true']);
        expect([status, stdout]).toEqual([125, '']);
        expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
        expect(stderr).toMatch(message);
      }
    }));
});

test.each([
  ['no command', ['IMAGE', 'monday', 'p1']],
  ['no command behind --', ['IMAGE', 'monday', '--']],
  ['no state', ['IMAGE', '--', 'true']],
  ['too many words', ['IMAGE', 'monday', 'p1', 'p2', '--', 'true']],
  ['a state for each snapshot', ['IMAGE', '--each-snapshot', 'monday', 'p1', '--', 'true']],
  ['--json for one state', ['IMAGE', 'monday', '--json', '--', 'true']],
  ['an empty name', ['IMAGE', '', '--', 'true']],
  ['an unknown option', ['IMAGE', '--no-such-option', 'monday', '--', 'true']],
  ['no size', ['IMAGE', '--max-delta', 'much', 'monday', '--', 'true']],
])('wrong usage is 2: %s', (_, words) =>
  withExec(({ exec }) => {
    const { status, stdout, stderr } = exec(words.map((word) => (word === 'IMAGE' ? weekImagePath : word)));
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).not.toBe('');
  }),
);
