/** Options of -o where fusermount3 mounts. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { runAsOrdinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import { makeSampleImage } from './sample-image.ts';

const folder = tmp.dirSync({ prefix: 'qcow2fs-user-options-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;
let samplePath: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
  samplePath = makeSampleImage(folder.name).path;
});

afterAll(() => folder.removeCallback());

test('an ordinary user has the options of a mount that root has', () =>
  withUserPlace(
    (path) => fs.copyFileSync(samplePath, path),
    ({ image, mountpoint }) => {
      const options = 'rw,noexec,noatime,default_permissions,max_read=8192,fsname=my\\,disk,umask=277';
      runAsOrdinaryUser([launcher, image, mountpoint, '-o', options]);
      expect(findMount(mountpoint)?.source).toBe('my,disk');
      const shown = runCommand('findmnt', ['--noheadings', '--output', 'OPTIONS', mountpoint]).trim().split(',');
      const wanted = ['ro', 'nosuid', 'nodev', 'noexec', 'noatime', 'default_permissions', 'max_read=8192'];
      expect(shown).toEqual(expect.arrayContaining(wanted));
      expect(runAsOrdinaryUser(['stat', '--format', '%a', `${mountpoint}/current/disk.raw`])).toBe('400\n');
    },
  ));

test('an ordinary user mounts several images at once', () =>
  withUserPlace(
    (path) => fs.copyFileSync(samplePath, path),
    ({ image, mountpoint }) => {
      runAsOrdinaryUser([launcher, 'mount', image, image, mountpoint]);
      expect(runAsOrdinaryUser(['ls', mountpoint]).trimEnd().split('\n')).toHaveLength(2);
    },
  ));
