/** The rooms of src and which may import which. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

const SOURCE = path.resolve(import.meta.dirname, '../src');

/** Rooms that a room may import, besides itself, `errors` and `common`. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  common: [],
  storage: [],
  disk: [],
  raw: ['disk', 'storage'],
  luks: ['storage'],
  volumes: ['disk'],
  // What was written to a disk is a disk of its own over it.
  overlay: ['disk'],
  qcow2: ['disk', 'luks', 'storage'],
  filesystem: [],
  tree: ['filesystem', 'disk'],
  fuse: ['filesystem'],
  'fuse-native': ['filesystem'],
  'open-image': ['disk', 'luks', 'storage', 'raw', 'qcow2', 'volumes', 'overlay'],
  // The daemon tells snapshots apart from one state of the image to the next.
  daemon: [
    ...['disk', 'filesystem', 'tree', 'fuse', 'fuse-native', 'open-image', 'overlay', 'qcow2', 'storage', 'volumes'],
  ],
  // What the daemon shows is used through its mount; the names of files are those of the tree.
  exec: ['daemon', 'open-image', 'tree'],
  demo: [],
  cli: ['daemon', 'demo', 'exec', 'open-image'],
};

const files = fs
  .readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .sort();

/** The room of a file of src: its folder, or its name without the ending at the top. */
function roomOf(file: string): string {
  return file.split(path.sep)[0]?.replace(/\.ts$/, '') ?? '';
}

/** Files of src that a file imports, as paths within src. */
function importsOf(file: string): string[] {
  const text = fs.readFileSync(path.join(SOURCE, file), 'utf8');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']*)'/g)].map(([, name]) =>
    path.relative(SOURCE, path.resolve(SOURCE, path.dirname(file), name ?? '')),
  );
}

test('the check sees the sources', () => {
  expect(files.length).toBeGreaterThan(50);
  expect(importsOf('cli/main.ts')).toContain('cli/program.ts');
});

test('every room is known', () => {
  expect([...new Set(files.map(roomOf))].filter((room) => !(room in ARROWS))).toEqual([]);
});

test('imports follow the arrows', () => {
  const wrong = files.flatMap((file) => {
    const room = roomOf(file);
    const allowed = [room, 'errors', 'common', ...(ARROWS[room] ?? [])];
    return importsOf(file)
      .filter((target) => !allowed.includes(roomOf(target)))
      .map((target) => `${file} -> ${target}`);
  });
  expect(wrong).toEqual([]);
});

test('a wire folder imports nothing but itself and common', () => {
  const wrong = files
    .filter((file) => file.includes(`${path.sep}wire${path.sep}`))
    .flatMap((file) => importsOf(file).map((target) => [file, target] as const))
    .filter(([file, target]) => path.dirname(file) !== path.dirname(target) && roomOf(target) !== 'common');
  expect(wrong).toEqual([]);
});

test('only the storage room opens or reads files of the image', () => {
  const readers = files.filter((file) =>
    /\b(openSync|readSync)\(|\/system-calls\.ts'/.test(fs.readFileSync(path.join(SOURCE, file), 'utf8')),
  );
  // The overlay room opens and reads files of its own, which hold what was written over an image.
  const others = readers.filter((file) => !['storage', 'fuse', 'daemon', 'demo', 'overlay'].includes(roomOf(file)));
  // Passphrases are no part of the image, nor is a new file; the last only does what it is told to with a descriptor.
  const allowed = ['passphrases.ts', 'prompt-passphrase.ts'].map((name) => `cli/${name}`);
  expect(others.sort()).toEqual([...allowed, 'common/create-for-owner.ts', 'common/system-calls.ts']);
});

test('nothing opens an image for writing', () => {
  const text = fs.readFileSync(path.join(SOURCE, 'storage/file-storage.ts'), 'utf8');
  expect(text.match(/openSync\([^)]*\)/g)).toEqual([
    'openSync(openPath, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)',
  ]);
  // O_PATH has no bytes to read or write.
  const pins = fs.readFileSync(path.join(SOURCE, 'storage/pinned-file.ts'), 'utf8');
  expect(pins.match(/openSync\([^;]*;/g)).toEqual(["openSync(Buffer.from(at, 'latin1'), O_PATH | flags);"]);
  expect(pins.match(/O_(RDWR|WRONLY|CREAT|TRUNC|APPEND)/g)).toBeNull();
});

test('a file that is written to is a new one', () => {
  const writer = fs.readFileSync(path.join(SOURCE, 'storage/new-file.ts'), 'utf8');
  expect(writer.match(/(openSync|createForOwner)\([^)]*\)/g)).toEqual(['createForOwner(path, fs.constants.O_WRONLY)']);
  const creator = fs.readFileSync(path.join(SOURCE, 'common/create-for-owner.ts'), 'utf8');
  expect(creator.match(/openSync\([^)]*\)/g)).toEqual([
    'openSync(path, flags | fs.constants.O_CREAT | fs.constants.O_EXCL, FILE_MODE)',
  ]);
});
