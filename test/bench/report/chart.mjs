/** A chart of the ratios that something is asked of: a bar for each, and a mark where its target is. */

import { judge } from './judge.mjs';

const TITLE = 'How many times as fast as QEMU’s own way to read an image as a file';
const WIDTH = 760;
const LABEL_WIDTH = 330;
const VALUE_WIDTH = 60;
const ROW_HEIGHT = 24;
const TOP = 52;
const BAR_HEIGHT = 14;
/** It is shown on light and on dark pages. */
const COLORS = { background: '#ffffff', text: '#24292f', bar: '#2f6f9f', one: '#8c959f', target: '#cf5c36' };

/** An SVG image of the rows that are compared in speed. */
export function drawChart(rows) {
  const bars = rows
    .map((row) => ({ ...row, ...judge(row) }))
    .filter(({ target, ratio }) => target?.atLeast !== undefined && Number.isFinite(ratio));
  const largest = Math.max(1, ...bars.flatMap(({ ratio, target }) => [ratio, target.atLeast]));
  const unitWidth = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / largest;
  const height = TOP + bars.length * ROW_HEIGHT + 12;
  const one = LABEL_WIDTH + unitWidth;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" fill="${COLORS.text}">`,
    `<title>${TITLE}</title>`,
    `<rect width="${WIDTH}" height="${height}" rx="6" fill="${COLORS.background}"/>`,
    `<text x="12" y="22" font-size="14" font-weight="bold">${TITLE}</text>`,
    `<text x="12" y="40" fill="${COLORS.one}">grey line: as fast as QEMU; orange mark: the target</text>`,
    ...bars.flatMap((bar, index) => drawBar(bar, TOP + index * ROW_HEIGHT, unitWidth)),
    `<path d="M${round(one)} ${TOP - 4}V${height - 8}" stroke="${COLORS.one}"/>`,
    '</svg>\n',
  ].join('\n');
}

function drawBar({ group, title, ratio, target }, y, unitWidth) {
  const middle = y + BAR_HEIGHT - 3;
  const end = LABEL_WIDTH + ratio * unitWidth;
  const mark = LABEL_WIDTH + target.atLeast * unitWidth;
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escapeXml(`${group}: ${title}`)}</text>`,
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${round(ratio * unitWidth)}" height="${BAR_HEIGHT}" fill="${COLORS.bar}"/>`,
    `<path d="M${round(mark)} ${y - 3}v${BAR_HEIGHT + 6}" stroke="${COLORS.target}" stroke-width="3"/>`,
    `<text x="${round(Math.max(end, mark) + 6)}" y="${middle}">${ratio.toFixed(1)}x</text>`,
  ];
}

function round(value) {
  return Math.round(value * 10) / 10;
}

function escapeXml(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
