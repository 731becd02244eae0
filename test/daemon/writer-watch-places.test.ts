/** Where the image lies and who looks: file systems without a device of their own, other users, namespaces. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { asOrdinaryUser, ordinaryUser, runAsOrdinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { installForUsers } from '../support/user-place.ts';
import { makeImage } from './mounting.ts';
import { qemuIo, shell, vm, whileMountedOn, whileRunning, withWatch } from './writers.ts';

/** Runs what follows in a mount namespace of its own. */
const IN_MOUNT_NAMESPACE = ['unshare', '--mount', '--propagation', 'private', '--'];

/** A new ext4 in a file, for `mount -o loop`: the first file in it always has the same inode number. */
function makeExt4(path: string): string {
  fs.writeFileSync(path, '');
  fs.truncateSync(path, 16 * 1024 * 1024);
  runCommand('mkfs.ext4', ['-q', path]);
  return path;
}

/** A writer with a lock and one without, one after the other. */
async function expectBothSeen(image: string): Promise<void> {
  await withWatch(image, async (watch, clock) => {
    expect(watch.look(true)).toBeUndefined();
    await whileRunning(vm(image), ({ pid }) => expect(watch.look(false)).toMatchObject({ pid, how: 'lock' }));
    clock.milliseconds += 10_000;
    expect(watch.look(false)).toBeUndefined();
    await whileRunning(shell(image), ({ pid }) => expect(watch.look(true)).toMatchObject({ pid, how: 'open' }));
    clock.milliseconds += 10_000;
    expect(watch.look(false)).toBeUndefined();
  });
}

describe('a writer is seen', () => {
  test('on ext4', () =>
    withTemporaryFolder((folder) =>
      whileMountedOn(`${folder}/mnt`, ['-o', 'loop', makeExt4(`${folder}/ext4`)], () =>
        expectBothSeen(makeImage(`${folder}/mnt`)),
      ),
    ));

  test('on tmpfs', () =>
    withTemporaryFolder((folder) =>
      whileMountedOn(`${folder}/mnt`, ['-t', 'tmpfs', 'none'], () => expectBothSeen(makeImage(`${folder}/mnt`))),
    ));

  test('on a file system that is mounted no more', () =>
    withTemporaryFolder((folder) =>
      whileMountedOn(`${folder}/mnt`, ['-t', 'tmpfs', 'none'], async () => {
        const image = makeImage(`${folder}/mnt`);
        const held = fs.openSync(image, 'r');
        try {
          await whileRunning(vm(image), ({ pid }) => {
            runCommand('umount', ['-l', `${folder}/mnt`]);
            return withWatch(`/proc/self/fd/${held}`, (watch) =>
              expect(watch.look(false)).toMatchObject({ pid, how: 'lock' }),
            );
          });
        } finally {
          fs.closeSync(held);
          // For `whileMountedOn` to remove.
          runCommand('mount', ['-t', 'tmpfs', 'none', `${folder}/mnt`]);
        }
      }),
    ));

  test('in another mount namespace, where the image is elsewhere', () =>
    withTemporaryFolder(async (folder) => {
      const image = makeImage(folder);
      const elsewhere = `${folder}/elsewhere`;
      fs.mkdirSync(elsewhere);
      const before = `mount --bind ${folder} ${elsewhere}; cd ${elsewhere}`;
      await withWatch(image, async (watch, clock) => {
        await whileRunning(
          shell('disk.qcow2', before),
          ({ pid }) => {
            const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8');
            const [, mountId = ''] = /mnt_id:\t(\d+)/.exec(fs.readFileSync(`/proc/${pid}/fdinfo/8`, 'utf8')) ?? [];
            expect(mounts).not.toMatch(new RegExp(`^${mountId} `, 'm'));
            expect(watch.look(true)).toMatchObject({ pid, how: 'open' });
          },
          IN_MOUNT_NAMESPACE,
        );
        clock.milliseconds += 10_000;
        const program = qemuIo(`${elsewhere}/disk.qcow2`);
        const script = `mount --bind ${folder} ${elsewhere}; exec "$@"`;
        await whileRunning(
          program,
          ({ pid }) => expect(watch.look(false)).toEqual({ pid, command: 'qemu-io', how: 'lock' }),
          [...IN_MOUNT_NAMESPACE, 'sh', '-euc', script, 'sh'],
        );
      });
    }));
});

describe('on an overlayfs', () => {
  /** Two lower layers whose first files have the same inode number, and an upper one on a third file system. */
  async function withOverlay(body: (first: string, second: string) => Promise<void>): Promise<void> {
    await withTemporaryFolder(async (folder) => {
      const [one, two, upper] = ['one', 'two', 'upper'].map((name) => `${folder}/${name}`) as [string, string, string];
      const mountLayer = (layer: string, inside: () => Promise<void>) =>
        whileMountedOn(layer, ['-o', 'loop', makeExt4(`${layer}.ext4`)], inside);
      await mountLayer(one, () =>
        mountLayer(two, () =>
          whileMountedOn(upper, ['-t', 'tmpfs', 'none'], async () => {
            fs.renameSync(makeImage(one), `${one}/first.qcow2`);
            fs.renameSync(makeImage(two), `${two}/second.qcow2`);
            for (const name of ['upper', 'work']) fs.mkdirSync(`${upper}/${name}`);
            const layers = `lowerdir=${one}:${two},upperdir=${upper}/upper,workdir=${upper}/work,xino=off`;
            const mountpoint = `${folder}/overlay`;
            await whileMountedOn(mountpoint, ['-t', 'overlay', 'none', '-o', layers], () =>
              body(`${mountpoint}/first.qcow2`, `${mountpoint}/second.qcow2`),
            );
          }),
        ),
      );
    });
  }

  test('a writer is seen, though the device is another in lists than in stat', () =>
    withOverlay(async (image) => {
      await expectBothSeen(image);
    }));

  test('the writer of another file that has the same name in the lists is told apart', () =>
    withOverlay(async (image, other) => {
      expect(fs.statSync(other).ino).toBe(fs.statSync(image).ino);
      expect(fs.statSync(other).dev).not.toBe(fs.statSync(image).dev);
      await withWatch(image, async (watch, clock) => {
        await whileRunning(shell(other), () => expect(watch.look(true)).toBeUndefined());
        clock.milliseconds += 10_000;
        await whileRunning(vm(other), async () => {
          expect(watch.look(true)).toBeUndefined();
          await whileRunning(vm(image), ({ pid }) => {
            clock.milliseconds += 10_000;
            expect(watch.look(false)?.pid).toBe(pid);
          });
          clock.milliseconds += 10_000;
          expect(watch.look(false)).toBeUndefined();
        });
        // What is known of the other file ends with its lock.
        expect(watch.look(false)).toBeUndefined();
        await whileRunning(vm(image), () => expect(watch.look(false)?.how).toBe('lock'));
      });
    }));
});

test('the same inode number on another file system is another file', () =>
  withTemporaryFolder((folder) => {
    const [one, two] = [`${folder}/one`, `${folder}/two`];
    return whileMountedOn(one, ['-o', 'loop', makeExt4(`${one}.ext4`)], () =>
      whileMountedOn(two, ['-o', 'loop', makeExt4(`${two}.ext4`)], async () => {
        const [image, other] = [makeImage(one), makeImage(two)];
        expect(fs.statSync(other).ino).toBe(fs.statSync(image).ino);
        await withWatch(image, async (watch, clock) => {
          await whileRunning(vm(other), () => expect(watch.look(true)).toBeUndefined());
          clock.milliseconds += 10_000;
          await whileRunning(shell(other), () => expect(watch.look(true)).toBeUndefined());
        });
      }),
    );
  }));

describe('a watch', () => {
  const SCRIPT = `
    const [module, image] = process.argv.slice(1);
    const { WriterWatch } = await import(module);
    const watch = new WriterWatch((await import('node:fs')).openSync(image, 'r'));
    console.log(JSON.stringify([watch.look(true) ?? null]));`;

  /** What a watch in a process of its own sees; `run` starts it. */
  function lookFrom(folder: string, image: string, run: (command: readonly string[]) => string): unknown {
    const module = `${folder}/package/dist/daemon/writer-watch.js`;
    const command = [process.execPath, '--input-type=module', '-e', SCRIPT, module, image];
    return (JSON.parse(run(command)) as unknown[])[0];
  }

  test('of an ordinary user sees a lock of anybody, but only its own processes', () =>
    withTemporaryFolder(async (folder) => {
      fs.mkdirSync(`${folder}/package`);
      installForUsers(`${folder}/package`);
      const image = makeImage(folder);
      const { uid, gid } = ordinaryUser();
      fs.chownSync(image, uid, gid);
      const look = () => lookFrom(folder, image, runAsOrdinaryUser);
      expect(look()).toBeNull();
      await whileRunning(vm(image), () => expect(look()).toEqual({ how: 'lock' }));
      await whileRunning(shell(image), () => expect(look()).toBeNull());
      const asUser = asOrdinaryUser();
      await whileRunning(
        qemuIo(image),
        ({ pid }) => expect(look()).toEqual({ pid, command: 'qemu-io', how: 'lock' }),
        asUser,
      );
      await whileRunning(
        shell(image),
        ({ pid }) => expect(look()).toEqual({ pid, command: 'sh', how: 'open' }),
        asUser,
      );
    }));

  test('in a PID namespace of its own sees a lock from outside', () =>
    withTemporaryFolder(async (folder) => {
      fs.mkdirSync(`${folder}/package`);
      installForUsers(`${folder}/package`);
      const image = makeImage(folder);
      const look = () =>
        lookFrom(folder, image, (command) =>
          runCommand('unshare', ['--pid', '--fork', '--kill-child', '--mount-proc', '--', ...command]),
        );
      expect(look()).toBeNull();
      await whileRunning(vm(image), () => expect(look()).toEqual({ how: 'lock' }));
      await whileRunning(shell(image), () => expect(look()).toBeNull());
    }));
});
