import { expect, test } from 'vitest';
import { Random } from '../oracle/random.ts';
import { expectSameAsTools, MIB, runSfdisk, withDisk, withLargeSectors } from './partitioned-disk.ts';

/** `TABLE_SEED` tries other tables. */
const SEED = Number(process.env.TABLE_SEED ?? 1);
const TABLE_COUNT = 24;
const DISK_MIB = 2048;
const GPT_TYPES = ['L', 'U', 'S', 'E6D6D379-F507-44C2-A23C-238F2A3DF928', 'A19D880F-05FC-4D3B-A006-743F0F84911E'];
const MBR_TYPES = ['83', '82', '8e', 'fd', '7', 'c', 'a5', 'a6', 'bf', '1', 'da', 'fe'];

/** Whole MiB in [`from`, `to`), in pieces with gaps between them. */
function split(random: Random, from: number, to: number, limit: number): (readonly [start: number, size: number])[] {
  const pieces: (readonly [number, number])[] = [];
  for (let at = from; pieces.length < limit; ) {
    const start = at + (random.chance(0.5) ? 0 : random.length(64));
    const size = 2 + random.length(200);
    if (start + size >= to) break;
    pieces.push([start, size]);
    at = start + size;
  }
  return pieces;
}

/** The items in another order. */
function shuffle<Item>(random: Random, items: readonly Item[]): Item[] {
  const left = [...items];
  return items.map(() => left.splice(random.below(left.length), 1)[0] as Item);
}

function gptScript(random: Random): string {
  const numbers = shuffle(
    random,
    Array.from({ length: 128 }, (_, slot) => slot + 1),
  );
  const lines = split(random, 1, DISK_MIB, 40).map(([start, size], index) => {
    const name = random.chance(0.5) ? `, name="${random.pick(['root', 'é ü', '数据', 'a,b', 'x'.repeat(36)])}"` : '';
    const attributes = random.chance(0.3) ? ', attrs="LegacyBIOSBootable"' : '';
    return `p${numbers[index]} : start=${start}M, size=${size}M, type=${random.pick(GPT_TYPES)}${name}${attributes}`;
  });
  return ['label: gpt', ...lines].join('\n');
}

function mbrScript(random: Random): string {
  const slots = shuffle(random, [1, 2, 3, 4]);
  const pieces = split(random, 1, DISK_MIB, 1 + random.below(4));
  const extended = random.chance(0.7) ? random.below(pieces.length) : -1;
  const logical: string[] = [];
  const primary = pieces.map(([start, size], index) => {
    const type = index === extended ? random.pick(['5', 'f', '85']) : random.pick(MBR_TYPES);
    if (index === extended) {
      for (let at = start; at + 2 < start + size && logical.length < 50; ) {
        const length = random.length(Math.min(20, start + size - at - 2));
        // Each has a record, for which sfdisk takes a MiB in front of it.
        logical.push(`p${5 + logical.length} : start=${at + 1}M, size=${length}M, type=${random.pick(MBR_TYPES)}`);
        at += length + 1;
      }
    }
    const bootable = random.chance(0.2) && index !== extended ? ', bootable' : '';
    return `p${slots[index]} : start=${start}M, size=${size}M, type=${type}${bootable}`;
  });
  return ['label: dos', ...primary, ...logical].join('\n');
}

for (const [kind, makeScript] of [
  ['GPT', gptScript],
  ['MBR', mbrScript],
] as const) {
  test(`random tables are read as the tools read them: ${kind}`, async () => {
    const counts: number[] = [];
    for (let index = 0; index < TABLE_COUNT; index++) {
      const random = new Random(SEED * 1000 + index);
      await withDisk(DISK_MIB * MIB, (path) => {
        const script = makeScript(random);
        runSfdisk(path, `${script}\n`);
        const { partitions, problems } = expectSameAsTools(path);
        expect(problems, script).toEqual([]);
        counts.push(partitions.length);
      });
    }
    expect(Math.max(...counts)).toBeGreaterThan(10);
  });
}

test('random GPTs are read as the tools read them: sectors of 4096 bytes', async () => {
  for (let index = 0; index < TABLE_COUNT / 4; index++) {
    const random = new Random(SEED * 1000 + 500 + index);
    await withDisk(DISK_MIB * MIB, (path) => {
      withLargeSectors(path, (device) => {
        runSfdisk(device, `${gptScript(random)}\n`);
        expect(expectSameAsTools(path, device).problems).toEqual([]);
      });
    });
  }
});
