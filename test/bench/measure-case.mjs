/** Does what a case asks for, with every peer that can. */

import fs from 'node:fs';
import path from 'node:path';
import { peakResidentBytes } from './peers/memory.mjs';
import { PEERS, whyNot } from './peers/peers.mjs';
import { median } from './report/median.mjs';
import { checkInterrupted, inScope, run, undoLater } from './run.mjs';
import { say } from './say.mjs';
import { whatIsWrong } from './verify.mjs';

/**
 * Returns a row for each of the `tasks` of the case. `peaks` is a map from peers to the most bytes of memory that each had
 * in a case.
 */
export async function measureCase(benchCase, tasks, { folder, sizes, peaks }) {
  return await inScope(async () => {
    const place = fs.mkdtempSync(path.join(folder, 'case-'));
    undoLater(() => fs.rmSync(place, { recursive: true, force: true }));
    say(`${benchCase.title}: making the image`);
    const subject = await benchCase.make(place, sizes);
    await fillPageCache(subject);
    const rows = tasks.map((task) => ({ group: benchCase.title, task, results: new Map() }));
    say(`${benchCase.title}: starting the peers and comparing their bytes`);
    const servers = await inScope(async () => {
      const started = await startAll(subject, place, rows);
      await measureRows(rows, ({ startsServer }) => !startsServer, started, { subject, place, sizes });
      for (const [peer, server] of started) remember(peaks, peer, server);
      return started;
    });
    await measureRows(rows, ({ startsServer }) => startsServer, servers, { subject, place, sizes });
    return rows.map(toRow);
  });
}

/** What servers read must not come from the disk in one round and from memory in the next, nor be on its way to the disk. */
async function fillPageCache({ files, views }) {
  const all = [...files, ...views.flatMap(({ raw }) => raw ?? [])];
  await run('sync', all);
  // It knows holes, and reads none.
  for (const file of all) await run('cp', ['--sparse=auto', file, '/dev/null']);
}

/** Starts all peers that can show the subject and whose bytes are right; notes in the rows why others cannot. */
async function startAll(subject, place, rows) {
  const servers = new Map();
  for (const peer of PEERS) {
    const reason = await whyNotStarted(peer, subject, place, servers);
    if (reason === undefined) continue;
    if (peer.isOurs || peer.isRaw) requireExcuse(peer, subject, reason);
    say(`${peer.name} is left out: ${reason}`);
    for (const { results } of rows) results.set(peer, { missing: reason });
  }
  return servers;
}

async function whyNotStarted(peer, subject, place, servers) {
  const reason = whyNot(peer, subject);
  if (reason !== undefined) return reason;
  let server;
  try {
    server = { ...(await peer.start(subject, place)), isRaw: peer.isRaw };
  } catch (error) {
    checkInterrupted();
    return `it does not open this image: ${reasonIn(error.message)}`;
  }
  const fault = await whatIsWrong(server, subject.views);
  if (fault === undefined) servers.set(peer, server);
  return fault;
}

/** Other peers may fail; what is measured against them may not. */
function requireExcuse(peer, subject, reason) {
  if (peer.cannot(subject) === undefined) throw new Error(`${peer.name}: ${reason}`);
}

async function measureRows(rows, isWanted, servers, context) {
  for (const { group, task, results } of rows.filter((row) => isWanted(row.task))) {
    say(`${group}: ${task.title}`);
    const values = new Map();
    for (const peer of servers.keys()) {
      const reason = peer.isRaw && (task.startsServer || task.isMemory) ? 'nothing serves it' : task.cannot?.(peer);
      if (reason === undefined) values.set(peer, []);
      else results.set(peer, { missing: reason });
    }
    const { rounds, fewRounds } = context.sizes;
    for (let round = 0; round < (task.hasFewRounds ? fewRounds : rounds); round++) {
      for (const peer of inTurn([...values.keys()], round)) {
        // What takes too long once is not tried again.
        if (values.get(peer).includes(Number.POSITIVE_INFINITY)) continue;
        values.get(peer).push(await measureOnce(task, peer, servers.get(peer), round, context));
      }
    }
    for (const [peer, figures] of values) results.set(peer, { median: median(figures), rounds: figures });
  }
}

/** Nobody is always the first, and nobody always comes after the same other. */
function inTurn(peers, round) {
  const first = round % peers.length;
  const turned = [...peers.slice(first), ...peers.slice(0, first)];
  return round % 2 === 0 ? turned : turned.reverse();
}

async function measureOnce(task, peer, server, round, { subject, place, sizes }) {
  checkInterrupted();
  if (!task.startsServer) return await task.measure({ server, round, folder: place, sizes });
  return await inScope(() => task.measure({ peer, subject, start: () => peer.start(subject, place) }));
}

function remember(peaks, peer, server) {
  peaks.set(peer, Math.max(peaks.get(peer) ?? 0, peakResidentBytes(server.pids())));
}

function toRow({ group, task: { title, unit, better, isMemory = false, target }, results }) {
  return { group, title, unit, better, isMemory, target, results };
}

/** A program may say a lot when it fails. */
function reasonIn(message) {
  const lines = message.trim().split('\n');
  return lines.find((line) => line.includes('unsupported')) ?? lines.at(-1);
}
