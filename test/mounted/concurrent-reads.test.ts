/** Many readers at once, and readers beside listings. */

import tmp from 'tmp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sha256OfFile } from '../support/hash.ts';
import { withMount } from '../support/mounted-image.ts';
import { startCommand } from '../support/run-async.ts';
import { makeSampleImage, type SampleImage } from './sample-image.ts';
import { diskFile } from './state-files.ts';

const READER_COUNT = 8;
const LISTING_COUNT = 15;

const folder = tmp.dirSync({ prefix: 'qcow2fs-concurrent-', unsafeCleanup: true });
let sample: SampleImage;

beforeAll(() => {
  sample = makeSampleImage(folder.name);
});

afterAll(() => folder.removeCallback());

/** Reads a file in one of several ways, each of which sends other requests; gives its sha256. */
async function readInSomeWay(file: string, way: number): Promise<string> {
  const command = ['cat "$1"', 'dd if="$1" bs=1M iflag=direct', 'dd if="$1" bs=20k', 'dd if="$1" bs=64k iflag=direct'];
  const script = `set -o pipefail; ${command[way % command.length]} | sha256sum`;
  return (await startCommand('bash', ['-c', script, 'bash', file])).split(' ')[0] ?? '';
}

/** Starts eight readers, spread over all states; gives what they read and what they should have read. */
async function readAll(mountpoint: string): Promise<{ readonly actual: string[]; readonly expected: string[] }> {
  const states = Array.from({ length: READER_COUNT }, (_, reader) => sample.states[reader % sample.states.length]);
  const expected = states.map((state) => (state === undefined ? '' : sha256OfFile(state.rawPath)));
  const actual = await Promise.all(
    states.map((state, reader) => (state === undefined ? '' : readInSomeWay(diskFile(mountpoint, state), reader))),
  );
  return { actual, expected };
}

it('serves eight readers at once', () =>
  withMount(sample.path, async (mountpoint) => {
    const { actual, expected } = await readAll(mountpoint);
    expect(actual).toEqual(expected);
  }));

it('serves eight readers of one file at once', () =>
  withMount(sample.path, async (mountpoint) => {
    const file = `${mountpoint}/current/disk.raw`;
    const readers = Array.from({ length: READER_COUNT }, (_, reader) => readInSomeWay(file, reader));
    const expected = sha256OfFile(sample.states[0]?.rawPath ?? '');
    expect(await Promise.all(readers)).toEqual(Array.from({ length: READER_COUNT }, () => expected));
  }));

it('lists the tree while it is read', () =>
  withMount(sample.path, async (mountpoint) => {
    const list = () => startCommand('ls', ['-lnR', '--time-style=full-iso', mountpoint]);
    const listing = await list();
    const listings = async () => {
      const all: string[] = [];
      for (let count = 0; count < LISTING_COUNT; count++) all.push(await list());
      return all;
    };
    const [{ actual, expected }, seen] = await Promise.all([readAll(mountpoint), listings()]);
    expect(actual).toEqual(expected);
    expect(new Set(seen)).toEqual(new Set([listing]));
  }));
