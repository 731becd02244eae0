/** The table of all results, in Markdown: with aligned columns it is as readable on a terminal. */

import { PEERS } from '../peers/peers.mjs';
import { qemuStorageDaemon } from '../peers/qemu-storage-daemon.mjs';
import { describeTarget, describeVerdict, judge } from './judge.mjs';

/** `limitSeconds` is when a program is ended that takes too long. */
export function formatTable(rows, { limitSeconds }) {
  const notes = [];
  const lines = [];
  let group;
  for (const row of rows) {
    if (row.group !== group) lines.push([`**${row.group}**`, ...Array(PEERS.length + 3).fill('')]);
    group = row.group;
    lines.push(cellsOf(row, notes, limitSeconds));
  }
  const header = ['', ...PEERS.map(({ name }) => name), 'ratio', 'target', ''];
  return [...alignColumns(header, lines), '', ...notes.map((note, index) => `- (${index + 1}) ${note}`)].join('\n');
}

export function formatNumber(value) {
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function cellsOf(row, notes, limitSeconds) {
  const { than, ratio, isMet } = judge(row);
  const comparedWithOther = `the ratio is to ${than?.name}`;
  const mark = than === undefined || than === qemuStorageDaemon ? '' : ` (${numberOf(comparedWithOther, notes)})`;
  return [
    `${row.title}, ${row.unit}`,
    ...PEERS.map((peer) => cellOf(peer, row.results.get(peer), notes, limitSeconds)),
    ratio === undefined ? '' : `${formatRatio(ratio)}${mark}`,
    describeTarget(row),
    describeVerdict(isMet),
  ];
}

function cellOf(peer, result, notes, limitSeconds) {
  if (result === undefined) return '-';
  if (result.missing !== undefined) return `- (${numberOf(`${peer.name}: ${result.missing}`, notes)})`;
  return Number.isFinite(result.median) ? formatNumber(result.median) : `> ${limitSeconds}`;
}

function formatRatio(ratio) {
  return Number.isFinite(ratio) ? `${ratio.toFixed(2)}x` : 'many x';
}

/** The same note has one number. */
function numberOf(note, notes) {
  if (!notes.includes(note)) notes.push(note);
  return notes.indexOf(note) + 1;
}

function alignColumns(header, lines) {
  const widths = header.map((title, column) => Math.max(title.length, ...lines.map((cells) => cells[column].length)));
  const format = (cells) =>
    `| ${cells.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join(' | ')} |`;
  const rule = `|${widths.map((width, at) => (at === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [format(header), rule, ...lines.map(format)];
}
