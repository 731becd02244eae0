/** Random writes through overlapping windows, beside a plain copy of the disk. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitUntilGone } from '../daemon/mounting.ts';
import { sha256OfFile } from '../support/hash.ts';
import { asOrdinaryUser, ordinaryUser } from '../support/ordinary-user.ts';
import { startCommand } from '../support/run-async.ts';
import { runCommand } from '../support/run-command.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import { makeWindowsImage, type WindowsImage } from './windows-image.ts';

const WRITER = fileURLToPath(new URL('random-writer.mjs', import.meta.url));
/** No multiple of a block: neighbours write parts of the same blocks. */
const STRIPE_BYTES = 10_000;
const NO_STRIPES = 2 ** 40;

const folder = tmp.dirSync({ prefix: 'qcow2fs-model-', unsafeCleanup: true, mode: 0o755 });
let made: WindowsImage;
let launcher: string;
let writer: string;

beforeAll(async () => {
  made = await makeWindowsImage(folder.name);
  launcher = installForUsers(`${folder.name}/package`);
  writer = path.join(folder.name, 'random-writer.mjs');
  fs.copyFileSync(WRITER, writer);
});

afterAll(() => folder.removeCallback());

const ways = [
  { transport: 'kernel', user: 'root' },
  { transport: 'kernel', user: 'an ordinary user' },
  { transport: 'fuse-native', user: 'root' },
];

test.each(ways)('through $transport as $user: all windows are the disk that was written to', ({ transport, user }) =>
  withUserPlace(
    (file) => fs.copyFileSync(made.image, file),
    async ({ folder: place, image, mountpoint }) => {
      const before = sha256OfFile(image);
      const copy = path.join(place, 'copy.raw');
      fs.copyFileSync(made.copy, copy);
      const { uid, gid } = ordinaryUser();
      fs.chownSync(copy, uid, gid);
      const [program = '', ...prefix] = [...(user === 'root' ? [] : asOrdinaryUser()), 'env', `TMPDIR=${place}`];
      const run = (...args: string[]) => runCommand(program, [...prefix, ...args]);
      run(launcher, 'scratch', '--transport', transport, image, 'night', mountpoint);
      const write = (seed: number, count: number, stripes: { writer: number; writerCount: number }) => {
        const stripeBytes = stripes.writerCount === 1 ? NO_STRIPES : STRIPE_BYTES;
        const canPunch = transport === 'kernel';
        const { windows } = made;
        const order = { mountpoint, copy, windows, seed, count, stripeBytes, ...stripes, canPunch };
        return startCommand(program, [...prefix, process.execPath, writer, JSON.stringify(order)]);
      };
      await write(1, 700, { writer: 0, writerCount: 1 });
      await Promise.all([0, 1, 2, 3].map((each) => write(10 + each, 300, { writer: each, writerCount: 4 })));
      expect(sha256OfFile(copy)).not.toBe(sha256OfFile(made.copy));
      for (const { file, segments } of made.windows) {
        for (const { offset, diskOffset, length } of segments) {
          run('cmp', '-n', `${length}`, '-i', `${offset}:${diskOffset}`, `${mountpoint}/${file}`, copy);
        }
      }
      run(launcher, 'umount', mountpoint);
      await waitUntilGone(mountpoint);
      expect(sha256OfFile(image)).toBe(before);
    },
  ),
);
