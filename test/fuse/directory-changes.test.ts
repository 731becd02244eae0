/** A directory that changes between two READDIRs of one listing. */

import { describe, expect, test } from 'vitest';
import type { DirectoryEntry, NodeId } from '../../src/filesystem/file-system.ts';
import type { Exchange } from '../../src/fuse/exchange.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { askExchange, makeExchange, readBody, request } from './wire-bytes.ts';

const ROOT = 1;
const READDIR = 28;
const READDIRPLUS = 44;
/** Of blocks that are far apart, as those of a tree. */
const NODES: readonly NodeId[] = [2, 5, 0x3_0000, 0x4_0000, 0x20_0000_0001];
const SUBSET_COUNT = 2 ** NODES.length;

class ListFileSystem extends MemoryFileSystem {
  readonly #nodes: readonly NodeId[];

  constructor(nodes: readonly NodeId[]) {
    super();
    this.#nodes = nodes;
  }

  override entries(): readonly DirectoryEntry[] {
    return this.#nodes.map((nodeId) => ({ nodeId, name: String(nodeId), kind: 'file' }));
  }
}

const subset = (bits: number) => NODES.filter((_, index) => (bits >> index) & 1);

interface Part {
  readonly names: readonly string[];
  readonly cookie: number;
}

/** What one reply lists, with room for `count` entries. */
function listPart(exchange: Exchange, opcode: number, cookie: number, count: number): Part {
  const entryBytes = opcode === READDIRPLUS ? 128 : 0;
  // The longest name here has 12 bytes, and ends at a multiple of 8 as all do.
  const room = count * (entryBytes + 40);
  const reply = askExchange(exchange, request(opcode, ROOT, readBody(cookie, room)));
  const names: string[] = [];
  let last = cookie;
  for (let offset = 16; reply !== undefined && offset < reply.length; ) {
    const dirent = offset + entryBytes;
    const nameBytes = reply.readUInt32LE(dirent + 16);
    names.push(reply.toString('latin1', dirent + 24, dirent + 24 + nameBytes));
    last = Number(reply.readBigUInt64LE(dirent + 8));
    offset = dirent + Math.ceil((24 + nameBytes) / 8) * 8;
  }
  return { names, cookie: last };
}

/** All names, with the directory exchanged behind the first reply. */
function listAcross(opcode: number, before: readonly NodeId[], after: readonly NodeId[], count: number): string[] {
  const exchange = makeExchange(new ListFileSystem(before));
  const first = listPart(exchange, opcode, 0, count);
  exchange.fileSystem = new ListFileSystem(after);
  const all = [...first.names];
  for (let { cookie } = first; ; ) {
    const part = listPart(exchange, opcode, cookie, 1);
    if (part.names.length === 0) return all;
    all.push(...part.names);
    cookie = part.cookie;
  }
}

describe.each([
  ['READDIR', READDIR],
  ['READDIRPLUS', READDIRPLUS],
])('%s', (_, opcode) => {
  test('lists what stays once, and nothing twice, whatever comes and goes in between', () => {
    for (let before = 0; before < SUBSET_COUNT; before++) {
      for (let after = 0; after < SUBSET_COUNT; after++) {
        for (const count of [1, 2, 3, 5]) {
          const label = `${subset(before)} then ${subset(after)} behind ${count}`;
          const all = listAcross(opcode, subset(before), subset(after), count);
          expect(new Set(all).size, label).toBe(all.length);
          const expected = ['.', '..', ...subset(before & after).map(String)];
          expect(
            expected.filter((name) => !all.includes(name)),
            label,
          ).toEqual([]);
          const possible = ['.', '..', ...subset(before | after).map(String)];
          expect(
            all.filter((name) => !possible.includes(name)),
            label,
          ).toEqual([]);
        }
      }
    }
  });

  test('goes on behind an entry that is gone', () => {
    const [first, second, third] = NODES;
    const all = listAcross(opcode, NODES.slice(0, 3), NODES.slice(2, 3), 4);
    expect(all).toEqual(['.', '..', ...[first, second, third].map(String)]);
  });

  test('lists what came behind the place that it has got to', () => {
    expect(listAcross(opcode, NODES.slice(0, 1), NODES.slice(0, 3), 3)).toEqual([
      '.',
      '..',
      ...NODES.slice(0, 3).map(String),
    ]);
  });
});
