/**
 * The directories of the tree: which names are in which. Each is made from the catalogue when it is first asked for: with
 * 65,536 snapshots the three large ones take 100 MiB, in each thread.
 */

import { toDateFileName } from '../common/dates.ts';
import { type DirectoryEntry, type NodeId, ROOT_NODE_ID } from '../filesystem/file-system.ts';
import type { Catalogue } from './catalogue.ts';
import { escapeName, type NamedEntry, toFileNames } from './file-names.ts';
import { BY_DATE, BY_ID, CURRENT, nodeInBlock, SLOT, SNAPSHOTS } from './node-ids.ts';

export interface Directory {
  readonly entries: readonly DirectoryEntry[];
  readonly nodeOfName: ReadonlyMap<string, NodeId>;
}

export interface Directories {
  /** The directory of the tree itself with this node id, or undefined. */
  directory(node: NodeId): Directory | undefined;
  /** That of a snapshot; states count from 1. */
  snapshotDirectory(state: number): Directory;
  /** The name of a snapshot's directory in `snapshots/` (latin1). */
  snapshotFileName(state: number): string;
}

export function createDirectories(catalogue: Catalogue): Directories {
  const { blocks, snapshots } = catalogue;
  const names = once(() => toFileNames(snapshots));
  const nodeOf = (index: number, slot: number) => nodeInBlock(blocks.snapshots[index] ?? 0, slot);
  const links = (entries: readonly NamedEntry[], slot: typeof SLOT.byIdLink | typeof SLOT.byDateLink) =>
    directory(toFileNames(entries).map((name, index) => entry(name, nodeOf(index, slot), 'symlink')));
  const own = new Map<NodeId, () => Directory>([
    [
      ROOT_NODE_ID,
      once(() =>
        directory([
          entry('snapshots', SNAPSHOTS, 'directory'),
          entry('by-id', BY_ID, 'directory'),
          entry('by-date', BY_DATE, 'directory'),
          entry('current', CURRENT, 'directory'),
          entry('image.json', nodeInBlock(blocks.imageJson, SLOT.imageJson), 'file'),
        ]),
      ),
    ],
    [CURRENT, once(() => stateDirectory(blocks.current, false))],
    [
      SNAPSHOTS,
      once(() => directory(names().map((name, index) => entry(name, nodeOf(index, SLOT.directory), 'directory')))),
    ],
    [
      BY_ID,
      once(() =>
        links(
          Array.from(snapshots, ({ id }) => ({ name: id, id })),
          SLOT.byIdLink,
        ),
      ),
    ],
    [BY_DATE, once(() => links(dateEntries(catalogue), SLOT.byDateLink))],
  ]);
  return {
    directory: (node) => own.get(node)?.(),
    snapshotDirectory: (state) =>
      stateDirectory(blocks.snapshots[state - 1] ?? 0, (snapshots.at(state - 1)?.vmStateBytes ?? 0) > 0),
    snapshotFileName: (state) => names()[state - 1] ?? escapeName(''),
  };
}

function dateEntries({ snapshots }: Catalogue): NamedEntry[] {
  return Array.from(snapshots, ({ time, id }) => ({ name: toDateFileName(time.seconds), id }));
}

function stateDirectory(block: number, hasVmState: boolean): Directory {
  return directory([
    entry('disk.raw', nodeInBlock(block, SLOT.disk), 'file'),
    entry('info.json', nodeInBlock(block, SLOT.info), 'file'),
    ...(hasVmState ? [entry('vmstate.bin', nodeInBlock(block, SLOT.vmState), 'file')] : []),
    entry('volumes', nodeInBlock(block, SLOT.volumes), 'directory'),
  ]);
}

function once<Value>(make: () => Value): () => Value {
  let made: Value | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

export function entry(name: string, nodeId: NodeId, kind: DirectoryEntry['kind']): DirectoryEntry {
  return { name, nodeId, kind };
}

export function directory(entries: readonly DirectoryEntry[]): Directory {
  return { entries, nodeOfName: new Map(entries.map(({ name, nodeId }) => [name, nodeId])) };
}
