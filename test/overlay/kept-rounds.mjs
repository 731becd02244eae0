/** Which blocks `kept-program.mjs` writes in a round: a few, anywhere on the disk. */
export function blocksOfRound(round, blockCount) {
  return Array.from({ length: 6 }, (_, index) => (round * 7919 + index * 104729 * (round + 3)) % blockCount);
}
