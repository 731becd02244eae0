import { describe, expect, test } from 'vitest';
import { InodeNumbers } from '../../src/fuse-native/inode-numbers.ts';

const LARGE = 2 ** 45;

describe('an inode number', () => {
  test('is the id of the node if that has 31 bits', () => {
    const numbers = new InodeNumbers({ isKnown: () => true });
    expect([1, 2, 0x7fff_ffff].map((node) => numbers.of(node))).toEqual([1, 2, 0x7fff_ffff]);
    expect(numbers.count).toBe(0);
  });

  test('of any other node has 32 bits, is never that of a small node nor the one for unknown, and stays', () => {
    const numbers = new InodeNumbers({ isKnown: () => true });
    const nodes = [0x8000_0000, 0xffff_fffe, 2 ** 32 + 1, LARGE, 2 ** 53 - 1];
    const given = nodes.map((node) => numbers.of(node));
    expect(new Set(given).size).toBe(nodes.length);
    for (const number of given) {
      expect(number).toBeGreaterThan(0x7fff_ffff);
      expect(number).toBeLessThan(0xffff_ffff);
    }
    expect(nodes.toReversed().map((node) => numbers.of(node))).toEqual(given.toReversed());
  });

  test('is not given again, although its node is gone and forgotten', () => {
    let newest = LARGE;
    const numbers = new InodeNumbers({ isKnown: (node) => node > newest - 3, leastSweptCount: 8 });
    const given = new Set<number>();
    for (; newest < LARGE + 10_000; newest++) given.add(numbers.of(newest));
    expect(given.size).toBe(10_000);
    expect(numbers.count).toBeLessThanOrEqual(8);
  });

  test('stays while its node exists, however many others come and go', () => {
    const isKept = (node: number) => node % 100 === 0;
    const numbers = new InodeNumbers({ isKnown: isKept, leastSweptCount: 8 });
    const kept = new Map<number, number>();
    for (let node = LARGE; node < LARGE + 10_000; node++) {
      const number = numbers.of(node);
      if (isKept(node)) kept.set(node, number);
    }
    expect([...kept.keys()].map((node) => numbers.of(node))).toEqual([...kept.values()]);
    expect(numbers.count).toBeLessThanOrEqual(2 * kept.size);
  });

  test('is one that is free when the range begins again', () => {
    let newest = 20;
    const isKnown = (node: number) => node === 20 || node === newest;
    const numbers = new InodeNumbers({ isKnown, firstGiven: 10, lastGiven: 15, leastSweptCount: 2 });
    const first = numbers.of(20);
    for (newest = 21; newest < 60; newest++) {
      const number = numbers.of(newest);
      expect(number).toBeGreaterThanOrEqual(10);
      expect(number).toBeLessThanOrEqual(15);
      expect(number).not.toBe(first);
    }
    expect(numbers.of(20)).toBe(first);
  });
});
