/** Who writes to an image: real QEMU and other programs, each seen by a watch that takes no lock. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Writer } from '../../src/daemon/writer-watch.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { makeImage } from './mounting.ts';
import { type Program, qemuIo, qemuNbd, shell, vm, whileRunning, withWatch } from './writers.ts';

const UNSEEN = { pid: undefined, command: undefined, how: 'lock' };

/** Looks before, while and after the program has the image open; `hasChanged` is what the watch is told. */
async function lookAround(make: (image: string) => Program, hasChanged: boolean): Promise<(Writer | undefined)[]> {
  const looks: (Writer | undefined)[] = [];
  await withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    await withWatch(image, async (watch, clock) => {
      looks.push(watch.look(false));
      const program = make(image);
      await whileRunning(program, async ({ pid, end }) => {
        const writer = watch.look(hasChanged);
        if (writer !== undefined) expect(writer).toMatchObject({ pid, command: program.name });
        expect(watch.look(false)).toBe(writer);
        looks.push(writer);
        await end();
      });
      clock.milliseconds += 10_000;
      looks.push(watch.look(false));
    });
  });
  return looks;
}

describe('a writer with a lock', () => {
  const writers: readonly [string, (image: string) => Program][] = [
    ['a VM', vm],
    ['a VM with locking=on', (image) => vm(image, ',file.locking=on')],
    ['qemu-io', qemuIo],
    ['qemu-nbd', qemuNbd],
  ];

  test.each(writers)('is seen while it runs: %s', async (_, make) => {
    const [before, during, after] = await lookAround(make, false);
    expect(before).toBeUndefined();
    expect(during?.how).toBe('lock');
    expect(after).toBeUndefined();
  });
});

describe('a writer without a lock', () => {
  const writers: readonly [string, (image: string) => Program][] = [
    ['a VM with locking=off', (image) => vm(image, ',file.locking=off')],
    ['another program', shell],
  ];

  test.each(writers)('is seen when the image has changed, and while it has it open: %s', async (_, make) => {
    const [before, during, after] = await lookAround(make, true);
    expect(before).toBeUndefined();
    expect(during?.how).toBe('open');
    expect(after).toBeUndefined();
  });

  test.each(writers)('is not searched as long as nothing changes: %s', async (_, make) => {
    expect(await lookAround(make, false)).toEqual([undefined, undefined, undefined]);
  });
});

describe('a reader is no writer', () => {
  test.each<[string, (image: string) => Program]>([
    ['a VM with a read-only drive', (image) => vm(image, ',readonly=on')],
    ['a reader with a lock', (image) => qemuIo(image, ['-r', '-f', 'qcow2'])],
    ['a reader that lets others write', (image) => qemuIo(image, ['-r', '-U', '-f', 'qcow2'])],
    ['a reader with locking=off', (image) => vm(image, ',readonly=on,file.locking=off')],
    ['qemu-nbd -r', (image) => qemuNbd(image, ['-r'])],
    ['a program that has it open', (image) => ({ ...shell(image), command: readingShell(image) })],
  ])('%s', async (_, make) => {
    expect(await lookAround(make, true)).toEqual([undefined, undefined, undefined]);
  });

  function readingShell(image: string): string[] {
    return shell(image).command.map((argument) => argument.replace('8<>', '8<'));
  }
});

test('the image is told from others, and known by each of its names', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    const [other, link, symlink] = ['other', 'link', 'symlink'].map((name) => `${folder}/${name}.qcow2`) as [
      string,
      string,
      string,
    ];
    fs.copyFileSync(image, other);
    fs.linkSync(image, link);
    fs.symlinkSync(image, symlink);
    await withWatch(image, async (watch, clock) => {
      for (const make of [vm, shell]) {
        await whileRunning(make(other), () => expect(watch.look(true)).toBeUndefined());
        clock.milliseconds += 10_000;
        for (const name of [link, symlink]) {
          await whileRunning(make(name), ({ pid }) => expect(watch.look(true)?.pid).toBe(pid));
          clock.milliseconds += 10_000;
          expect(watch.look(false)).toBeUndefined();
        }
      }
    });
  }));

test('a lock of another program on the whole image says nothing', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    // F_OFD_SETLK is 37; struct flock of x86-64: F_RDLCK, SEEK_SET, start, length (to the end), pid.
    const script = `open(my $file, '<', $ARGV[0]) or die;
      my $lock = pack('ssx4qqlx4', 0, 0, 0, 0, 0);
      fcntl($file, 37, $lock) or die;
      flock($file, 1) or die;
      $| = 1;
      print 'ready';
      <STDIN>`;
    const program = { ...shell(image), name: 'perl', command: ['perl', '-e', script, image] };
    await withWatch(image, (watch) =>
      whileRunning(program, () => {
        const { ino } = fs.statSync(image);
        expect(fs.readFileSync('/proc/locks', 'utf8')).toMatch(new RegExp(`OFDLCK .*:${ino} 0 EOF`));
        expect(watch.look(true)).toBeUndefined();
      }),
    );
  }));

test('this process itself is no writer', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    const fd = fs.openSync(image, 'r+');
    try {
      await withWatch(image, (watch) => expect(watch.look(true)).toBeUndefined());
    } finally {
      fs.closeSync(fd);
    }
  }));

test('the watch keeps nobody from writing', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    await withWatch(image, (watch) => {
      watch.look(true);
      runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', image]);
    });
  }));

test('a block device is an image like a file', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    const device = runCommand('losetup', ['--find', '--show', image]).trim();
    try {
      await withWatch(device, async (watch, clock) => {
        await whileRunning(qemuIo(device), ({ pid }) =>
          expect(watch.look(false)).toEqual({ pid, command: 'qemu-io', how: 'lock' }),
        );
        clock.milliseconds += 10_000;
        await whileRunning(shell(device), ({ pid }) =>
          expect(watch.look(true)).toEqual({ pid, command: 'sh', how: 'open' }),
        );
      });
    } finally {
      runCommand('losetup', ['-d', device]);
    }
  }));

describe('searches', () => {
  test('rest for two seconds after one that found nobody, and what changed meanwhile is not forgotten', () =>
    withTemporaryFolder(async (folder) => {
      const image = makeImage(folder);
      await withWatch(image, async (watch, clock) => {
        expect(watch.look(true)).toBeUndefined();
        await whileRunning(shell(image), ({ pid }) => {
          clock.milliseconds = 1_999;
          expect(watch.look(true)).toBeUndefined();
          clock.milliseconds = 2_000;
          expect(watch.look(false)?.pid).toBe(pid);
        });
      });
    }));

  test('are not made for changes of a writer that was seen', () =>
    withTemporaryFolder(async (folder) => {
      const image = makeImage(folder);
      await withWatch(image, async (watch) => {
        await whileRunning(vm(image), () => expect(watch.look(true)?.how).toBe('lock'));
        await whileRunning(shell(image), () => {
          expect(watch.look(false)).toBeUndefined();
          expect(watch.look(true)?.how).toBe('open');
        });
      });
    }));

  test('of who holds a lock rest as well, but the lock is seen at once', () =>
    withTemporaryFolder(async (folder) => {
      const image = makeImage(folder);
      await withWatch(image, async (watch, clock) => {
        await whileRunning(vm(image), ({ pid }) => expect(watch.look(false)?.pid).toBe(pid));
        await whileRunning(qemuIo(image), ({ pid }) => {
          expect(watch.look(false)).toEqual(UNSEEN);
          clock.milliseconds = 2_000;
          expect(watch.look(false)).toEqual({ pid, command: 'qemu-io', how: 'lock' });
        });
      });
    }));
});

test('a lock says more than an open file', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    await withWatch(image, (watch) =>
      whileRunning(shell(image), async (opener) => {
        expect(watch.look(true)).toEqual({ pid: opener.pid, command: 'sh', how: 'open' });
        await whileRunning(vm(image), ({ pid }) => expect(watch.look(true)).toMatchObject({ pid, how: 'lock' }));
        expect(watch.look(false)).toEqual({ pid: opener.pid, command: 'sh', how: 'open' });
      }),
    );
  }));
