/** Where a race takes place: a folder with the program and its readers, which any user can run, and a mountpoint. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findDaemons } from '../../dist/daemon/find-daemons.js';
import { run, runAnyway, undoLater } from '../bench/run.mjs';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const UNMOUNT_ATTEMPTS = 20;
const READER_FILES = ['test/race', 'test/fuzz/random.mjs', 'test/bench/run.mjs'];

/** `user` is a name, or undefined for whoever runs this. */
export async function makePlace(user) {
  const folder = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'qcow2fs-race-'));
  undoLater(() => fs.rmSync(folder, { recursive: true, force: true }));
  fs.chmodSync(folder, 0o755);
  const place = {
    folder,
    journal: path.join(folder, 'journal'),
    mountpoint: path.join(folder, 'mnt'),
    log: path.join(folder, 'log'),
    launcher: path.join(PACKAGE, 'bin/qcow2fs'),
    reader: path.join(PACKAGE, 'test/race/reader.mjs'),
    prefix: [],
  };
  for (const name of [place.journal, place.mountpoint]) fs.mkdirSync(name);
  return user === undefined ? place : await handOver(place, user);
}

/** Mounts the image for the owner of the place. */
export async function mountImage({ prefix, launcher, mountpoint, log }, transport, image) {
  const [program, ...args] = [...prefix, launcher];
  undoLater(async () => {
    // It may hang; a mount does not outlive it for long.
    for (const pid of findDaemons(mountpoint)) process.kill(pid, 'SIGKILL');
    while (isMounted(mountpoint)) await runAnyway('umount', ['-l', '-c', '--', mountpoint]);
  });
  await run(program, [...args, 'mount', '--transport', transport, '--log-file', log, image, mountpoint]);
}

/** Something else on the machine may look into the mount just then: that is not what a race is about. */
export async function unmountImage({ prefix, launcher, mountpoint }) {
  const [program, ...args] = [...prefix, launcher, 'umount', mountpoint];
  for (let attempt = 1; ; attempt++) {
    try {
      await run(program, args);
      return;
    } catch (error) {
      if (attempt === UNMOUNT_ATTEMPTS || !error.message.includes('in use')) throw error;
      await sleep(200);
    }
  }
}

function isMounted(mountpoint) {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountpoint} `);
}

/** The checkout may lie where other users cannot pass: they get a copy of what they run. */
async function handOver(place, user) {
  const copy = path.join(place.folder, 'package');
  for (const name of ['package.json', 'bin', 'dist', ...READER_FILES, ...productionModules()]) {
    fs.cpSync(path.join(PACKAGE, name), path.join(copy, name), { recursive: true });
  }
  const uid = Number(await run('id', ['-u', user]));
  const gid = Number(await run('id', ['-g', user]));
  fs.writeFileSync(place.log, '');
  for (const name of [place.mountpoint, place.log]) fs.chownSync(name, uid, gid);
  return {
    ...place,
    launcher: path.join(copy, 'bin/qcow2fs'),
    reader: path.join(copy, 'test/race/reader.mjs'),
    prefix: ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'],
  };
}

function productionModules() {
  const { packages } = JSON.parse(fs.readFileSync(path.join(PACKAGE, 'package-lock.json'), 'utf8'));
  return Object.keys(packages).filter(
    // Optional packages for other machines are in the list as well.
    (name) => name !== '' && packages[name].dev !== true && fs.existsSync(path.join(PACKAGE, name)),
  );
}
