/** Names that cannot be looked at, of an ordinary user: what the system says, and no bug of this program. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { ordinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { installForUsers, type UserPlace, withUserPlace } from '../support/user-place.ts';

const folder = tmp.dirSync({ prefix: 'qcow2fs-user-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
});

afterAll(() => folder.removeCallback());

const PLACES: Readonly<Record<string, readonly [name: string, text: RegExp]>> = {
  'in a folder of somebody else': ['closed/x', /permission denied/i],
  'below a file': ['file/x', /not a directory/i],
  'that is too long': ['x'.repeat(300), /name too long/i],
  'behind a loop of symlinks': ['loop/x', /too many symbolic links/i],
};

type Words = (name: string, place: UserPlace) => readonly string[];

/** The name is that of what each of them is about. */
const COMMANDS: Readonly<Record<string, Words>> = {
  'a log file': (name, { image, mountpoint }) => ['mount', '--log-file', name, image, mountpoint],
  'an export of a view': (name, { image, mountpoint }) => ['scratch', '--export', name, image, 'monday', mountpoint],
  'a delta of a view': (name, { image, mountpoint }) => ['scratch', '--delta', name, image, 'monday', mountpoint],
  'an image': (name, { mountpoint }) => ['mount', '--log-file', `${mountpoint}.log`, name, mountpoint],
  'a delta': (name, { image }) => ['export', '--delta', name, image, 'monday', `${image}.new`],
  'an export': (name, { image }) => ['export', image, 'monday', name],
  'a mountpoint': (name) => ['umount', name],
};

function withUnreachable(body: (place: UserPlace) => void): Promise<void> {
  return withUserPlace(
    (path) => fs.copyFileSync(weekImagePath, path),
    (place) => {
      fs.mkdirSync(`${place.folder}/closed`, { mode: 0o700 });
      // They are there.
      fs.writeFileSync(`${place.folder}/closed/x`, '');
      fs.writeFileSync(`${place.folder}/file`, '');
      fs.symlinkSync('loop', `${place.folder}/loop`);
      const { uid, gid } = ordinaryUser();
      fs.chownSync(place.folder, uid, gid);
      const before = fs.readdirSync(place.folder);
      body(place);
      expect(fs.readdirSync(place.folder).filter((name) => !name.endsWith('.log'))).toEqual(before);
    },
  );
}

describe.each(Object.entries(COMMANDS))('%s', (_, words) => {
  test.each(Object.entries(PLACES))('%s', (_place, [name, text]) =>
    withUnreachable((place) => {
      const file = `${place.folder}/${name}`;
      const { status, stdout, stderr } = tryAsOrdinaryUser([launcher, ...words(file, place)]);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
      expect(stderr).toContain(file);
      expect(stderr).toMatch(text);
      expect(stderr).not.toMatch(/internal error|no such/);
    }),
  );
});

test('an image that cannot be reached is no log file', () =>
  withUnreachable((place) => {
    const words = ['mount', '--log-file', `${place.folder}/there.log`, `${place.folder}/closed/x`, place.mountpoint];
    fs.writeFileSync(`${place.folder}/there.log`, '', { mode: 0o666 });
    fs.chmodSync(`${place.folder}/there.log`, 0o666);
    const { status, stderr } = tryAsOrdinaryUser([launcher, ...words]);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^qcow2fs: \S+\/closed\/x: [^\n]*permission denied[^\n]*\n$/),
    ]);
  }));

test('a file for changes whose name is too long, though that of the export is not', () =>
  withUnreachable(({ folder: place, image, mountpoint }) => {
    const file = `${place}/${'x'.repeat(250)}`;
    const { status, stderr } = tryAsOrdinaryUser([launcher, 'scratch', '--export', file, image, 'monday', mountpoint]);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^qcow2fs: \S+x\.delta[ :][^\n]*name too long[^\n]*\n$/),
    ]);
  }));
