/** The table of results, and the note that keeps it with the machine it came from. */

import os from 'node:os';
import { REWRITTEN_BYTES, REWRITTEN_PIECES } from './make-image.mjs';

const MIB = 2 ** 20;

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A Markdown table with aligned columns: it is as readable on a terminal. */
export function formatTable(rows) {
  const header = ['', 'qcow2fs', 'qemu-storage-daemon', 'ratio', 'goal'];
  const cells = rows.map(({ goal, ours, theirs, title, unit }) => [
    title,
    `${formatNumber(ours)} ${unit}`,
    `${formatNumber(theirs)} ${unit}`,
    `${(ours / theirs).toFixed(2)}x`,
    goal === undefined ? '' : `${goal.toFixed(1)}x`,
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column].length)));
  const line = (row) =>
    `| ${row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join(' | ')} |`;
  const rule = `|${widths.map((width, at) => (at === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [line(header), rule, ...cells.map(line)].join('\n');
}

export function formatNote({ date, machine, rounds, seconds, sizeBytes, table }) {
  return `# Benchmarks

\`npm run bench -- --write\` makes this file: qcow2fs beside the FUSE export of qemu-storage-daemon, on the current state of
the same image, with both mounted at the same time. The figures are medians of ${rounds} rounds, in which the two take turns;
ratio is qcow2fs to qemu-storage-daemon. Before anything is timed, both must give the same sha256 of the whole disk.

${table}

- Image: ${formatNumber(sizeBytes / MIB)} MiB of random data, clusters of 64 KiB, one snapshot, and
  ${(REWRITTEN_PIECES * REWRITTEN_BYTES) / MIB} MiB in ${REWRITTEN_PIECES} places that were written after it. The image file is in the page cache.
- Buffered reads go through the page cache of the mount, which is empty at the start of each round. O_DIRECT reads go
  past it. Random reads run for ${seconds} s each.
- Peak memory is the largest resident size (VmHWM) of all processes that serve the mount, after all rounds.

Measured on ${date}:

${machine.map((line) => `- ${line}`).join('\n')}
`;
}

/** `versions` are the first lines of what programs say about themselves. */
export function describeMachine(versions) {
  const cpus = os.cpus();
  return [
    `${cpus[0]?.model.trim() ?? 'unknown CPU'}, ${cpus.length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB of memory`,
    `${os.type()} ${os.release()} (${os.arch()})`,
    `Node.js ${process.version}`,
    ...versions,
  ];
}

function formatNumber(value) {
  const digits = value < 10 ? 1 : 0;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
