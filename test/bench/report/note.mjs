/** native-notes/benchmarks.md: the results, and below them what people have written about them, which stays. */

import { formatNumber } from './table.mjs';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** From this line on the note is not the bench's. */
const KEPT = '\n## What was tried';
const NOTHING_KEPT = `${KEPT}\n\nNothing yet.\n`;

/** `before` is the note as it is. */
export function formatNote(before, { date, machine, sizes, table }) {
  const kept = before.includes(KEPT) ? before.slice(before.indexOf(KEPT)) : NOTHING_KEPT;
  return `# Benchmarks

\`npm run bench -- --write\` makes this file, down to "What was tried", and the chart of the README: qcow2fs beside other
programs that show an image as a file, each on the same image in the same run. Before anything is timed, each of them must
give the right bytes, which are compared by sha256 with what QEMU reads; who does not is left out.

![How many times as fast as QEMU](benchmarks.svg)

The figures are medians of ${sizes.rounds} rounds, or ${sizes.fewRounds} of what takes long, in which the programs take turns in changing order. The
ratio is how many times as fast as qemu-storage-daemon qcow2fs is, and of memory how many times as much it takes. Only
ratios of one run say something: the same machine is another one an hour later.

${table}

- The plain image is ${formatNumber(sizes.plainBytes / MIB)} MiB of random data in clusters of 64 KiB, with a snapshot, after which a 64th of it was written
  again. Others are ${formatNumber(sizes.layoutBytes / MIB)} MiB: random data, but for zlib and zstd, which are text and records. Each of the 8 backing files
  has a ninth of the data; half of the subclusters of extended L2 are in a backing file; the fragmented image was filled by a
  guest in random order; the disk of ${formatNumber(sizes.sparseBytes / GIB)} GiB has its data in pieces of 1 MiB. An eighth of the disk changed between two of the
  7 snapshots.
- Image files are in the page cache. Buffered reads go through the page cache of the mount, which is empty at the start of
  each round. O_DIRECT reads go past it. The raw file is in the page cache as well and read from there, also where others are
  read with O_DIRECT: that is what the machine can do at most. Random reads run for ${sizes.seconds} s.
- What takes more than ${sizes.limitSeconds} s is ended and not run again.
- All programs run as root with their defaults. qemu-nbd and nbdfuse are a pair of processes for each state that is shown.
- Memory is that of all processes which serve an image: what is resident (RSS). With 7 snapshots, what is mapped from files
  counts once for all processes of a program. The peak is the largest sum of VmHWM in any case.

Measured on ${date}:

${machine.map((line) => `- ${line}`).join('\n')}
${kept}`;
}
