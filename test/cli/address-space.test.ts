/** The commands where the addresses of a process have a limit, as batch systems and shells set it (setrlimit(2), RLIMIT_AS). */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/qcow2fs');
const WEEK = path.resolve(import.meta.dirname, '../../src/demo/week.qcow2');

/** Enough for Node.js, and less than V8 reserves for the memory of one WebAssembly module. */
const LIMIT_KIB = 8_000_000;

/** What a module that is loaded before the program does to it: koffi is not installed. */
const HIDE_KOFFI = `
const Module = require('node:module');
const load = Module._load;
Module._load = (name, ...rest) => {
  if (name === 'koffi') throw new Error('it is hidden');
  return load(name, ...rest);
};`;

const limited = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  tryCommand('sh', ['-c', `ulimit -v ${LIMIT_KIB} && exec "$@"`, 'sh', LAUNCHER, ...args], { env });

/** A compressed image of a file of text, with what QEMU reads from it. */
function createCompressed(folder: string, type: 'zlib' | 'zstd'): { image: string; expected: Buffer } {
  const source = `${folder}/source.raw`;
  const image = `${folder}/${type}.qcow2`;
  fs.writeFileSync(source, 'compressible '.repeat(20_000).slice(0, 3 << 16));
  runCommand('qemu-img', ['convert', '-c', '-O', 'qcow2', '-o', `compression_type=${type}`, source, image]);
  return { image, expected: fs.readFileSync(source) };
}

function exported(image: string, env?: Readonly<Record<string, string>>): Buffer {
  const result = limited(['export', '--flat', image, 'current', `${image}.copy`], env);
  expect([result.status, result.stderr]).toEqual([0, '']);
  runCommand('qemu-img', ['convert', '-O', 'raw', `${image}.copy`, `${image}.raw`]);
  return fs.readFileSync(`${image}.raw`);
}

function hideKoffi(folder: string): Record<string, string> {
  fs.writeFileSync(`${folder}/hide.cjs`, HIDE_KOFFI);
  return { NODE_OPTIONS: `--require=${folder}/hide.cjs` };
}

test.each([['--version'], ['list', WEEK], ['check', WEEK]])('the command %s needs no more', (...args) => {
  const { status, stderr } = limited(args);
  expect([status, stderr]).toEqual([0, '']);
});

test('compressed clusters of both types are read through the libraries that are there', () =>
  withTemporaryFolder((folder) => {
    for (const type of ['zlib', 'zstd'] as const) {
      const { image, expected } = createCompressed(folder, type);
      expect(exported(image).equals(expected), type).toBe(true);
    }
  }));

// Node.js has zstd from 22.15 on.
test.skipIf('zstd' in process.versions)('only zstd that nothing else decompresses asks for more, and says so', () =>
  withTemporaryFolder((folder) => {
    const env = hideKoffi(folder);
    const zlib = createCompressed(folder, 'zlib');
    expect(exported(zlib.image, env).equals(zlib.expected)).toBe(true);

    const { image, expected } = createCompressed(folder, 'zstd');
    expect(limited(['list', image], env).status).toBe(0);
    const copy = `${folder}/copy.qcow2`;
    const { status, stderr } = limited(['export', '--flat', image, 'current', copy], env);
    expect(stderr).toMatch(
      /^qcow2fs: \S+zstd\.qcow2: its clusters are compressed with zstd, which nothing can decompress here \(.*memory.*\): raise the limit on the address space \(ulimit -v\), or install libzstd1 and the npm package koffi\n$/,
    );
    expect(status).toBe(1);
    expect(fs.existsSync(copy)).toBe(false);

    runCommand(LAUNCHER, ['export', '--flat', image, 'current', copy], { env });
    runCommand('qemu-img', ['convert', '-O', 'raw', copy, `${copy}.raw`]);
    expect(fs.readFileSync(`${copy}.raw`).equals(expected)).toBe(true);
  }),
);
