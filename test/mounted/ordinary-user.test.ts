/** Mounts that an ordinary user makes through fusermount3, from an installed package. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findDaemons, hasEnded } from '../../src/daemon/find-daemons.ts';
import { findMount } from '../../src/fuse/mountinfo.ts';
import type { mapRawFile } from '../oracle/qemu.ts';
import { trueStates } from '../oracle/truth.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { asOrdinaryUser, ordinaryUser, runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { installForUsers, type UserPlace, withUserPlace } from '../support/user-place.ts';
import { makeSampleImage } from './sample-image.ts';
import { diskFile } from './state-files.ts';

const SOMEBODY_ELSE = ['--reuid=65534', '--regid=65534', '--clear-groups'];
/** Until a watchdog has removed the mount of a daemon that was killed. */
const WATCHDOG_MS = 2_000;

const folder = tmp.dirSync({ prefix: 'qcow2fs-user-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;
let samplePath: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
  samplePath = makeSampleImage(folder.name).path;
});

afterAll(() => folder.removeCallback());

/** Runs `body` with the sample mounted by the user. */
function whileMounted(body: (place: UserPlace) => void | Promise<void>): Promise<void> {
  return withUserPlace(
    (path) => fs.copyFileSync(samplePath, path),
    async (place) => {
      fs.chmodSync(place.image, 0o600);
      runAsOrdinaryUser([launcher, 'mount', place.image, place.mountpoint]);
      await body(place);
    },
  );
}

function daemonOf({ mountpoint }: UserPlace): number {
  const [pid, ...others] = findDaemons(mountpoint, ordinaryUser().uid);
  if (pid === undefined || others.length > 0) throw new Error(`not one daemon for ${mountpoint}`);
  return pid;
}

async function waitUntilGone({ mountpoint }: UserPlace): Promise<void> {
  while (findMount(mountpoint) !== undefined || findDaemons(mountpoint, ordinaryUser().uid).length > 0) await sleep(10);
}

describe('a mount of an ordinary user', () => {
  test('shows the bytes and the holes of every state', () =>
    whileMounted((place) => {
      for (const state of trueStates(samplePath, folder.name)) {
        const file = diskFile(place.mountpoint, state);
        const sum = runAsOrdinaryUser(['sha256sum', file]).split(' ')[0];
        expect(sum, state.title).toBe(sha256OfFile(state.rawPath));
        const map = JSON.parse(runAsOrdinaryUser(['qemu-img', 'map', '--output=json', '-f', 'raw', file]));
        const extents = (entries: ReturnType<typeof mapRawFile>) => entries.filter(({ data }) => data).length;
        expect(extents(map), state.title).toBeGreaterThan(0);
        expect(map.length, state.title).toBeGreaterThan(extents(map));
      }
    }));

  test('has the type and the source that root’s has, and can do no more', () =>
    whileMounted(({ image, mountpoint }) => {
      const columns = runCommand('findmnt', ['-n', '-o', 'SOURCE,FSTYPE,OPTIONS', mountpoint]).trim().split(/\s+/);
      expect(columns.slice(0, 2)).toEqual([image, 'fuse.qcow2fs']);
      const options = columns[2]?.split(',') ?? [];
      expect(options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'max_read=262144']));
      expect(options).not.toContain('allow_other');
    }));

  test.each(['kernel', 'fuse-native'])('may have any name for its image and its mountpoint: %s', (transport) =>
    whileMounted((place) => {
      const [image, mountpoint] = ['image', 'mnt'].map((name) => `${place.folder}/${name} a,b\\c #ü`);
      if (image === undefined || mountpoint === undefined) return;
      fs.copyFileSync(place.image, image);
      fs.mkdirSync(mountpoint);
      for (const path of [image, mountpoint]) fs.chownSync(path, ordinaryUser().uid, ordinaryUser().gid);
      runAsOrdinaryUser([launcher, 'mount', '--transport', transport, image, mountpoint]);
      expect(findMount(mountpoint)?.source).toBe(image);
      expect(runAsOrdinaryUser(['ls', mountpoint]).split('\n')).toContain('snapshots');
      runAsOrdinaryUser([launcher, 'umount', mountpoint]);
      expect(findMount(mountpoint)).toBeUndefined();
    }),
  );

  test('through fuse-native is removed within two seconds when its daemon is killed', () =>
    whileMounted(async (place) => {
      runAsOrdinaryUser([launcher, 'umount', place.mountpoint]);
      runAsOrdinaryUser([launcher, 'mount', '--transport', 'fuse-native', place.image, place.mountpoint]);
      process.kill(daemonOf(place), 'SIGKILL');
      const killedAt = Date.now();
      await waitUntilGone(place);
      expect(Date.now() - killedAt).toBeLessThan(WATCHDOG_MS);
    }));

  test('lets in nobody else, not even root', () =>
    whileMounted(({ mountpoint }) => {
      for (const identity of [SOMEBODY_ELSE, []]) {
        const { stderr } = tryCommand('setpriv', [...identity, 'cat', `${mountpoint}/image.json`]);
        expect(stderr).toContain('Permission denied');
      }
    }));

  test('is unmounted by its user, who may do so twice, and its daemon is gone then', () =>
    whileMounted((place) => {
      const pid = daemonOf(place);
      runAsOrdinaryUser([launcher, 'umount', place.mountpoint]);
      expect(findMount(place.mountpoint)).toBeUndefined();
      expect(hasEnded(pid)).toBe(true);
      expect(tryAsOrdinaryUser([launcher, 'umount', place.mountpoint])).toEqual({
        status: 0,
        stdout: '',
        stderr: `qcow2fs: nothing is mounted on ${place.mountpoint}\n`,
      });
    }));

  test('is unmounted by root, and its daemon is gone then', () =>
    whileMounted((place) => {
      const pid = daemonOf(place);
      runCommand(QCOW2FS, ['umount', place.mountpoint]);
      expect(findMount(place.mountpoint)).toBeUndefined();
      expect(hasEnded(pid)).toBe(true);
    }));

  test('ends by SIGTERM', () =>
    whileMounted(async (place) => {
      process.kill(daemonOf(place), 'SIGTERM');
      await waitUntilGone(place);
    }));

  test('is not unmounted while it is in use; SIGTERM detaches it, and it ends with its last user', () =>
    whileMounted(async (place) => {
      const pid = daemonOf(place);
      const [program = '', ...args] = [...asOrdinaryUser(), 'sh', '-c', 'exec <"$1"; echo; read line <&3'];
      const reader = spawn(program, [...args, 'sh', `${place.mountpoint}/current/disk.raw`], {
        stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
      });
      try {
        await once(reader.stdout ?? reader, 'data');
        const { status, stderr } = tryAsOrdinaryUser([launcher, 'umount', place.mountpoint]);
        expect(status).toBe(1);
        expect(stderr).toContain(`it is in use by process ${reader.pid} (sh)`);
        expect(stderr).toContain(`\`fusermount3 -u -z ${place.mountpoint}\``);
        process.kill(pid, 'SIGTERM');
        while (findMount(place.mountpoint) !== undefined) await sleep(10);
        expect(hasEnded(pid)).toBe(false);
      } finally {
        reader.kill('SIGKILL');
      }
      await waitUntilGone(place);
    }));

  test('is removed within two seconds when its daemon is killed', () =>
    whileMounted(async (place) => {
      process.kill(daemonOf(place), 'SIGKILL');
      const killedAt = Date.now();
      await waitUntilGone(place);
      expect(Date.now() - killedAt).toBeLessThan(WATCHDOG_MS);
      expect(fs.readdirSync(place.mountpoint)).toEqual([]);
    }));

  test('that is dead is replaced by the next one, and can be unmounted', () =>
    whileMounted(async (place) => {
      await killWithWatchdog(daemonOf(place));
      expect(findMount(place.mountpoint)).toBeDefined();
      runAsOrdinaryUser([launcher, 'mount', place.image, place.mountpoint]);
      await killWithWatchdog(daemonOf(place));
      runAsOrdinaryUser([launcher, 'umount', place.mountpoint]);
      expect(findMount(place.mountpoint)).toBeUndefined();
    }));

  test('that is dead can be unmounted by root', () =>
    whileMounted(async (place) => {
      await killWithWatchdog(daemonOf(place));
      runCommand(QCOW2FS, ['umount', place.mountpoint]);
      expect(findMount(place.mountpoint)).toBeUndefined();
    }));
});

test('a mount of root is not for an ordinary user to unmount', () =>
  withUserPlace(
    (path) => fs.copyFileSync(samplePath, path),
    ({ image, mountpoint }) => {
      runCommand(QCOW2FS, ['mount', image, mountpoint]);
      expect(tryAsOrdinaryUser([launcher, 'umount', mountpoint])).toEqual({
        status: 1,
        stdout: '',
        stderr:
          `qcow2fs: cannot unmount the mount on ${mountpoint}: another user (uid 0) made it; ` +
          `do it as that user or as root\n`,
      });
      runCommand(QCOW2FS, ['umount', mountpoint]);
    },
  ));

/** Its watchdog is its only child. */
async function killWithWatchdog(daemon: number): Promise<void> {
  const [watchdog] = fs.readFileSync(`/proc/${daemon}/task/${daemon}/children`, 'utf8').trim().split(' ').map(Number);
  if (watchdog === undefined || watchdog === 0) throw new Error('the daemon has no watchdog');
  process.kill(watchdog, 'SIGKILL');
  process.kill(daemon, 'SIGKILL');
  while (!hasEnded(daemon)) await sleep(10);
}

test('an image that this user may not read is not mounted', () =>
  withUserPlace(
    (path) => fs.copyFileSync(samplePath, path),
    ({ image, mountpoint }) => {
      fs.chownSync(image, 0, 0);
      fs.chmodSync(image, 0o600);
      expect(tryAsOrdinaryUser([launcher, 'mount', image, mountpoint])).toEqual({
        status: 1,
        stdout: '',
        stderr: `qcow2fs: ${image}: permission denied: run as a user who may read it, such as root\n`,
      });
      expect(findMount(mountpoint)).toBeUndefined();
    },
  ));
