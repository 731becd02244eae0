/** All results with every round, for other programs. */

import { describeTarget, judge } from './judge.mjs';

/** What took too long is null, as JSON has no Infinity. */
export function formatJson(rows, about) {
  return `${JSON.stringify({ ...about, rows: rows.map(toObject) }, null, 2)}\n`;
}

function toObject(row) {
  const { group, title, unit, better } = row;
  const { than, ratio, isMet } = judge(row);
  const results = Object.fromEntries([...row.results].map(([peer, result]) => [peer.name, result]));
  const target = row.target === undefined ? undefined : describeTarget(row);
  return { group, title, unit, better, target, isMet, ratio, ratioTo: than?.name, results };
}
