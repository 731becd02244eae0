import { expect, test } from 'vitest';
import { commonOwnership, overrideOwnership } from '../../src/tree/ownership.ts';

const file = (mode: number, uid = 1000, gid = 100) => ({ mode: 0o100000 | mode, uid, gid });

test.each([
  ['the image alone decides', [file(0o644)], 0o444],
  ['write and execute are never given', [file(0o777)], 0o444],
  ['a private image stays private', [file(0o600)], 0o400],
  ['a private backing file makes the tree private', [file(0o644), file(0o600)], 0o400],
  ['the owner of the image is anybody to a backing file of someone else', [file(0o644), file(0o640, 0)], 0o040],
  ['nor does another group pass', [file(0o644), file(0o640, 0, 0)], 0],
  ['what anybody may read of it, everybody may', [file(0o640), file(0o644, 0, 0)], 0o440],
  ['nobody passes whose group it keeps out', [file(0o644), file(0o604, 1000, 0)], 0o400],
  ['nor may its owner be in such a group', [file(0o644), file(0o604, 0)], 0o004],
  ['every file of the chain counts', [file(0o644), file(0o644), file(0o604)], 0o404],
])('%s', (_, files, permissions) => {
  expect(commonOwnership(files)).toEqual({ permissions, uid: 1000, gid: 100 });
});

test.each([
  ['nothing', {}, { permissions: 0o400, uid: 1000, gid: 100 }],
  ['the owner', { uid: 0 }, { permissions: 0o400, uid: 0, gid: 100 }],
  ['the group', { gid: 0 }, { permissions: 0o400, uid: 1000, gid: 0 }],
  ['the permissions, without ever giving more than reading', { umask: 0 }, { permissions: 0o444, uid: 1000, gid: 100 }],
  ['the permissions of some', { umask: 0o27 }, { permissions: 0o440, uid: 1000, gid: 100 }],
])('the user overrides %s', (_, override, expected) => {
  expect(overrideOwnership({ permissions: 0o400, uid: 1000, gid: 100 }, override)).toEqual(expected);
});
