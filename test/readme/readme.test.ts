/** Runs the commands of README.md, so that a reader can rely on each of them. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageFolder } from '../../src/demo/week.ts';
import { copyCheckout } from '../demo/package-copy.ts';
import { withInstalled } from '../support/installed.ts';
import { loopDevicesBelow, mountsBelow } from '../support/leftovers.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { fencedBlocks, inlineCode, OTHER_IMAGE, README, runCommands, tableRows, writeSudo } from './readme.ts';

/** Whole suites: running them here would run this test within itself. That npm knows them is all that is checked. */
const SUITE = /^(?:sudo )?npm (?:run )?(demo|test)$/;

/** Of options of -o that do not take any number or path. */
const VALUES: Readonly<Record<string, string>> = { umask: '077', transport: 'auto', 'on-missing': 'zero' };

describe('README.md', () => {
  const blocks = fencedBlocks(README);

  test('has its commands in blocks of sh, and no command in a block of text', () => {
    expect(README.match(/^ *```/gm)?.length).toBe(blocks.length * 2);
    expect(new Set(blocks.map(({ language }) => language))).toEqual(new Set(['sh', OTHER_IMAGE, 'text']));
    for (const { language, text } of blocks) {
      if (language === 'text') expect(text).not.toMatch(/^ *(\$ |sudo |qcow2fs |npm |bin\/)/m);
    }
  });

  test('has commands that work, in their order', () =>
    withCheckout((checkout, bin, env) => {
      const scripts = (JSON.parse(fs.readFileSync(path.join(checkout, 'package.json'), 'utf8')) as PackageJson).scripts;
      let output = '';
      for (const { language, text } of blocks) {
        if (language !== 'sh') continue;
        const lines = text.split('\n');
        for (const line of lines) {
          const suite = SUITE.exec(line)?.[1];
          if (suite !== undefined) expect(Object.keys(scripts)).toContain(suite);
        }
        const commands = lines.filter((line) => !SUITE.test(line)).join('\n');
        const { status, stdout, stderr } = runCommands(commands, { cwd: checkout, bin, env });
        expect(status, `${commands}\n${stdout}${stderr}`).toBe(0);
        output += stdout;
      }
      // What the example promises.
      expect(fs.readFileSync(path.join(checkout, 'thursday.raw')).length).toBe(16 * 1024 * 1024);
      expect(runCommand('sqlite3', [path.join(checkout, 'thursday.db'), 'PRAGMA integrity_check'])).toBe('ok\n');
      const friday = tryCommand('sqlite3', [path.join(checkout, 'friday.db'), 'PRAGMA integrity_check']);
      expect(friday.stdout).not.toBe('ok\n');
      const verdicts = [...output.matchAll(/^([a-z]+day) +\d{4}-\S+Z +\d+ +(.*)$/gm)].map(([, day, verdict]) => [
        day,
        verdict === 'ok',
      ]);
      expect(Object.fromEntries(verdicts)).toEqual({
        ...{ monday: true, tuesday: true, wednesday: true, thursday: true },
        ...{ friday: false, saturday: false, sunday: false },
      });
      expect(fs.readFileSync(path.join(checkout, 'notes-of-saturday.txt'), 'utf8')).toContain('2026-11-20 ');
      expect(output).toContain('Binary files before/shop.db and after/shop.db differ\n');
      expect(mountsBelow(checkout)).toEqual([]);
      expect(loopDevicesBelow(checkout)).toEqual([]);
    }));

  test('names every command and option there is, and no other', () => {
    const codes = inlineCode(README);
    const commands = [...qcow2fs('--help').matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name);
    const realCommands = commands.filter((name) => name !== 'help');
    const named = codes.flatMap((code) => /^qcow2fs ([a-z]+)/.exec(code)?.[1] ?? []);
    expect(new Set(named)).toEqual(new Set(realCommands));

    // An option is written as `mount -f`; either of its two forms will do.
    const namedOptions = new Set(
      codes.map(firstTwoWords).filter((code) => realCommands.some((command) => code.startsWith(`${command} -`))),
    );
    for (const command of realCommands) {
      const options = [...qcow2fs(command, '--help').matchAll(/^ {2}(?:(-[a-z]), )?(--[a-z-]+)/gm)];
      for (const [, ...forms] of options.filter(([, , long]) => long !== '--help')) {
        const isNamed = forms.map((form) => namedOptions.delete(`${command} ${form}`)).includes(true);
        expect(isNamed, `${command} ${forms.join(' ')}`).toBe(true);
      }
    }
    expect([...namedOptions]).toEqual([]);
  });

  test('has a line for fstab that mounts', () =>
    withInstalled(({ folder, image, mountpoint, run }) => {
      const line = textBlock('fuse.qcow2fs  ').replace(EXAMPLE_IMAGE, image).replace(EXAMPLE_MOUNTPOINT, mountpoint);
      fs.writeFileSync(`${folder}/fstab`, `${line}\n`);
      const { status, stdout, stderr } = run(`mount --all -T ${folder}/fstab; ls ${mountpoint}/snapshots`);
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'monday\n', stderr: '' });
    }));

  test('has a unit of systemd that mounts', () =>
    withInstalled(({ folder, image, mountpoint, run }) => {
      const unit = textBlock('[Mount]');
      const { What, Where, Type, Options } = Object.fromEntries(
        [...unit.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
      );
      expect([What, Where]).toEqual([EXAMPLE_IMAGE, EXAMPLE_MOUNTPOINT]);
      // What systemd runs for it, see systemd.mount(5).
      const { status, stdout, stderr } = run(
        `mount ${image} ${mountpoint} -t ${Type} -o ${Options}; ls ${mountpoint}/snapshots`,
      );
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'monday\n', stderr: '' });
      // Not on every machine: it comes with systemd itself.
      if (!fs.existsSync('/usr/bin/systemd-analyze')) return;
      fs.writeFileSync(`${folder}/mnt-vm.mount`, `${unit}\n`);
      expect(tryCommand('systemd-analyze', ['verify', `${folder}/mnt-vm.mount`])).toMatchObject({
        status: 0,
        stderr: '',
      });
    }));

  test('names options of -o that there are, and explains messages that there are', () => {
    const options = tableRows('option').flatMap(([cell = '']) => inlineCode(cell));
    expect(options.length).toBeGreaterThan(10);
    for (const option of options) {
      const [name = '', value] = option.split('=');
      const { status, stderr } = tryCommand(path.join(packageFolder, 'bin/qcow2fs'), [
        ...['-o', value === undefined ? name : `${name}=${VALUES[name] ?? '4096'}`, '/nothing/image', '/nothing'],
      ]);
      expect({ option, status, stderr }).toMatchObject({
        option,
        status: 1,
        stderr: expect.not.stringContaining('-o'),
      });
    }
    const sources = fs
      .readdirSync(path.join(packageFolder, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => fs.readFileSync(path.join(packageFolder, 'src', name), 'utf8'))
      .join('\n');
    const ours = tableRows('message')
      .map(([cell = '']) => inlineCode(cell)[0] ?? '')
      .filter((message) => !MESSAGES_OF_OTHERS.includes(message));
    expect(ours.length).toBeGreaterThan(5);
    // The name of a file is no part of the sources.
    expect(ours.filter((message) => !sources.includes(message.replace(/^\/\S+ /, '')))).toEqual([]);
  });

  test('lets its reader, who need not be root, into what it mounts as root', () => {
    const mounts = blocks.flatMap(({ text }) => text.match(/^sudo qcow2fs mount .*/gm) ?? []);
    expect(mounts.length).toBeGreaterThan(0);
    for (const mount of mounts) expect(mount).toContain(' -o allow_other ');
  });

  test('is ASCII', () => {
    expect(README).toMatch(/^[\n\x20-\x7e]*$/);
  });
});

const EXAMPLE_IMAGE = '/var/lib/libvirt/images/vm.qcow2';
const EXAMPLE_MOUNTPOINT = '/mnt/vm';

/** Of the shell, and of the C library for errno values. */
const MESSAGES_OF_OTHERS = [
  'qcow2fs: not found',
  'Permission denied',
  'Operation not permitted',
  'No space left on device',
  'Stale file handle',
  'Device or resource busy',
  'Input/output error',
  'Transport endpoint is not connected',
];

/** The block of text that has this in it. */
function textBlock(part: string): string {
  const found = fencedBlocks(README).find(({ language, text }) => language === 'text' && text.includes(part));
  return found?.text ?? '';
}

interface PackageJson {
  readonly scripts: Record<string, string>;
}

function firstTwoWords(text: string): string {
  return text.split(' ', 2).join(' ');
}

function qcow2fs(...args: readonly string[]): string {
  return runCommand(path.join(packageFolder, 'bin/qcow2fs'), args);
}

/**
 * Runs `body` with a checkout of its own and the environment for commands in it: npm installs into a folder beside it,
 * from which programs are taken first, and `sudo` only runs its arguments, since the tests run as root.
 */
async function withCheckout(body: (checkout: string, bin: string, env: Record<string, string>) => void): Promise<void> {
  await withTemporaryFolder((folder) => {
    const checkout = path.join(folder, 'checkout');
    const prefix = path.join(folder, 'prefix');
    const bin = path.join(prefix, 'bin');
    fs.mkdirSync(bin, { recursive: true });
    writeSudo(bin);
    copyCheckout(checkout);
    try {
      body(checkout, bin, { npm_config_prefix: prefix });
    } finally {
      for (const mountPoint of mountsBelow(folder)) runCommand('umount', ['--lazy', '--', mountPoint]);
    }
  });
}
