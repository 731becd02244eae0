/** Paths that lead into a mount, by the symlinks of a real file system. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { leadsInto } from '../../src/disk/leads-into.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const LINKS = {
  plain: 'mnt/snapshots/a/disk.raw',
  absolute: '/FOLDER/mnt',
  twice: 'plain',
  up: 'below/../mnt/x',
  // The parent of what a symlink leads to, not of the symlink.
  beside: 'far/../mnt',
  far: 'below/deeper',
  loop: 'loop',
  similar: 'mnt2/x',
  dangling: 'nowhere/x',
};

const CASES: [name: string, isInside: boolean][] = [
  ['mnt', true],
  ['mnt/disk.raw', true],
  ['./below/.././/mnt/', true],
  ['plain', true],
  ['absolute/disk.raw', true],
  ['twice', true],
  ['up', true],
  ['beside', false],
  ['far/../../mnt', true],
  ['loop', false],
  ['similar', false],
  ['dangling', false],
  ['mnt2', false],
  ['below/file', false],
];

test.each(CASES)('%s: %s', (name, isInside) =>
  withTemporaryFolder((given) => {
    const folder = fs.realpathSync(given);
    for (const made of ['mnt', 'mnt2', 'below/deeper']) fs.mkdirSync(path.join(folder, made), { recursive: true });
    for (const [link, target] of Object.entries(LINKS)) {
      fs.symlinkSync(target.replace('/FOLDER', folder), path.join(folder, link));
    }
    expect(leadsInto(path.join(folder, 'mnt'), `${folder}/${name}`)).toBe(isInside);
  }),
);
