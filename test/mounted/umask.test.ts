/** Whatever the umask of an ordinary user says, what is made for that user can be used by that user. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { expectWholeImage } from '../oracle/exported.ts';
import { trueStates } from '../oracle/truth.ts';
import { ordinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import type { CommandResult } from '../support/run-command.ts';
import { installForUsers, type UserPlace, withUserPlace } from '../support/user-place.ts';

const folder = tmp.dirSync({ prefix: 'qcow2fs-user-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
});

afterAll(() => folder.removeCallback());

interface UmaskPlace extends UserPlace {
  /** As the user, to its end. */
  readonly qcow2fs: (...words: readonly string[]) => CommandResult;
}

function withUmask(umask: string, body: (place: UmaskPlace) => void): Promise<void> {
  return withUserPlace(
    (path) => fs.copyFileSync(weekImagePath, path),
    (place) => {
      const { uid, gid } = ordinaryUser();
      fs.chownSync(place.folder, uid, gid);
      const script = 'umask "$0"; exec "$@"';
      const env = { TMPDIR: place.folder };
      body({
        ...place,
        qcow2fs: (...words) => tryAsOrdinaryUser(['sh', '-c', script, umask, launcher, ...words], { env }),
      });
    },
  );
}

const DONE = { status: 0, stdout: '', stderr: '' };
const modeOf = (file: string) => fs.statSync(file).mode & 0o777;

describe.each(['777', '277', '477', '022'])('with the umask %s', (umask) => {
  test('an export belongs to the owner alone', () =>
    withUmask(umask, ({ folder: place, image, qcow2fs }) => {
      expect(qcow2fs('export', image, 'monday', `${place}/new`).status).toBe(0);
      expect(modeOf(`${place}/new`)).toBe(0o600);
      const monday = trueStates(image, place).find(({ snapshot }) => snapshot?.name === 'monday');
      expectWholeImage(`${place}/new`, monday?.rawPath ?? '');
    }));

  test('the export of a view is made, and told to be', () =>
    withUmask(umask, ({ folder: place, image, mountpoint, qcow2fs }) => {
      const [file, log] = [`${place}/new`, `${place}/log`];
      const words = ['scratch', '--log-file', log, '--export', file, image, 'monday', mountpoint];
      expect(qcow2fs(...words)).toEqual(DONE);
      expect(modeOf(`${file}.delta`)).toBe(0o600);
      expect(qcow2fs('umount', mountpoint)).toEqual(DONE);
      expect([modeOf(file), modeOf(log), fs.existsSync(`${file}.delta`)]).toEqual([0o600, 0o600, false]);
      // The log is there now.
      expect(qcow2fs('mount', '--log-file', log, image, mountpoint)).toEqual(DONE);
      expect(qcow2fs('umount', mountpoint)).toEqual(DONE);
    }));

  test('a kept delta is gone on with', () =>
    withUmask(umask, ({ folder: place, image, mountpoint, qcow2fs }) => {
      for (let round = 0; round < 2; round++) {
        expect(qcow2fs('scratch', '--delta', `${place}/delta`, image, 'monday', mountpoint)).toEqual(DONE);
        expect(qcow2fs('umount', mountpoint)).toEqual(DONE);
      }
      expect(qcow2fs('export', '--delta', `${place}/delta`, image, 'monday', `${place}/new`).status).toBe(0);
    }));

  test('a command is run, and nothing is left of it', () =>
    withUmask(umask, ({ folder: place, image, qcow2fs }) => {
      const before = fs.readdirSync(place);
      const result = qcow2fs('exec', image, 'thursday', 'p1', '--', 'ls', 'notes.txt');
      expect(result).toEqual({ status: 0, stdout: 'notes.txt\n', stderr: '' });
      expect(fs.readdirSync(place)).toEqual(before);
    }));
});
