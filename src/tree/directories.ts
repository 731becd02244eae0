/**
 * The directories of the tree: which names are in which. Each is made from the catalogue when it is first asked for: with
 * 65,536 snapshots the three large ones take 100 MiB, in each thread.
 */

import { toDateFileName } from '../common/dates.ts';
import { mapSequence } from '../common/sequence.ts';
import { type DirectoryEntry, type NodeId, ROOT_NODE_ID } from '../filesystem/file-system.ts';
import { type Catalogue, snapshotOf } from './catalogue.ts';
import { escapeName, toFileNames } from './file-names.ts';
import { BY_DATE, BY_ID, IMAGE_JSON, SLOT, SNAPSHOTS, stateNode, stateOf } from './node-ids.ts';

export interface Directory {
  readonly entries: readonly DirectoryEntry[];
  readonly nodeOfName: ReadonlyMap<string, NodeId>;
}

export interface Directories {
  /** The directory with this node id, or undefined. */
  directory(node: NodeId): Directory | undefined;
  /** The name of a snapshot's directory in `snapshots/` (latin1); states count from 1. */
  snapshotFileName(state: number): string;
}

export function createDirectories(catalogue: Catalogue): Directories {
  const { snapshots } = catalogue;
  const names = once(() => toFileNames(snapshots));
  const ids = mapSequence(snapshots, ({ id }) => ({ name: id, id }));
  const link = (slot: typeof SLOT.byIdLink | typeof SLOT.byDateLink) => (name: string, index: number) =>
    entry(name, stateNode(index + 1, slot), 'symlink');
  const own = new Map<NodeId, () => Directory>([
    [
      ROOT_NODE_ID,
      once(() =>
        directory([
          entry('image.json', IMAGE_JSON, 'file'),
          entry('current', stateNode(0, SLOT.directory), 'directory'),
          entry('snapshots', SNAPSHOTS, 'directory'),
          entry('by-id', BY_ID, 'directory'),
          entry('by-date', BY_DATE, 'directory'),
        ]),
      ),
    ],
    [
      SNAPSHOTS,
      once(() =>
        directory(names().map((name, index) => entry(name, stateNode(index + 1, SLOT.directory), 'directory'))),
      ),
    ],
    [BY_ID, once(() => directory(toFileNames(ids).map(link(SLOT.byIdLink))))],
    [BY_DATE, once(() => directory(toFileNames(dateEntries(catalogue)).map(link(SLOT.byDateLink))))],
  ]);
  return {
    directory: (node) => own.get(node)?.() ?? stateDirectory(node, catalogue),
    snapshotFileName: (state) => names()[state - 1] ?? escapeName(''),
  };
}

function dateEntries({ snapshots }: Catalogue) {
  return mapSequence(snapshots, ({ time, id }) => ({ name: toDateFileName(time.seconds), id }));
}

function stateDirectory(node: NodeId, catalogue: Catalogue): Directory | undefined {
  const state = stateOf(node);
  if (state < 0 || state > catalogue.snapshots.length || node !== stateNode(state, SLOT.directory)) return undefined;
  const hasVmState = (snapshotOf(catalogue, state)?.vmStateBytes ?? 0) > 0;
  return directory([
    entry('disk.raw', stateNode(state, SLOT.disk), 'file'),
    entry('info.json', stateNode(state, SLOT.info), 'file'),
    ...(hasVmState ? [entry('vmstate.bin', stateNode(state, SLOT.vmState), 'file')] : []),
  ]);
}

function once<Value>(make: () => Value): () => Value {
  let made: Value | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function entry(name: string, nodeId: NodeId, kind: DirectoryEntry['kind']): DirectoryEntry {
  return { name, nodeId, kind };
}

function directory(entries: readonly DirectoryEntry[]): Directory {
  return { entries, nodeOfName: new Map(entries.map(({ name, nodeId }) => [name, nodeId])) };
}
