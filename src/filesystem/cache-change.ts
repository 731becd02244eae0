/** What a cache of a file system, such as the kernel's, must forget when another one is shown in its place. */

import { type DirectoryEntry, type FileSystem, type NodeId, ROOT_NODE_ID } from './file-system.ts';

export type CacheChange =
  /** A name in a directory (latin1) stands for another node, or came, or went. */
  | { readonly kind: 'entry'; readonly parent: NodeId; readonly name: string }
  /** Attributes and contents: the bytes of a file, the list of a directory, the target of a symlink. */
  | { readonly kind: 'node'; readonly node: NodeId };

/**
 * The differences between two file systems, from the root down. Nodes that are gone are told as well: they are nobody's any
 * more, but may still be open. Attributes are not compared: what changes in them alone is found out when they are old.
 */
export function cacheChanges(before: FileSystem, after: FileSystem): CacheChange[] {
  const changes: CacheChange[] = [];
  compareDirectory(before, after, ROOT_NODE_ID, changes);
  return changes;
}

/** `directory` is in both. */
function compareDirectory(before: FileSystem, after: FileSystem, directory: NodeId, changes: CacheChange[]): void {
  const newEntries = new Map(after.entries(directory).map((entry) => [entry.name, entry]));
  const changedNames: string[] = [];
  for (const old of before.entries(directory)) {
    const now = newEntries.get(old.name);
    newEntries.delete(old.name);
    if (now?.nodeId === old.nodeId) {
      compareNode(before, after, old, changes);
    } else {
      changedNames.push(old.name);
      forgetTree(before, old, changes);
    }
  }
  changedNames.push(...newEntries.keys());
  if (changedNames.length === 0) return;
  changes.push(...changedNames.map((name) => ({ kind: 'entry' as const, parent: directory, name })));
  changes.push({ kind: 'node', node: directory });
}

function compareNode(before: FileSystem, after: FileSystem, entry: DirectoryEntry, changes: CacheChange[]): void {
  const { kind, nodeId } = entry;
  if (kind === 'directory') compareDirectory(before, after, nodeId, changes);
  else if (kind === 'symlink' && !before.readlink(nodeId).equals(after.readlink(nodeId))) {
    changes.push({ kind: 'node', node: nodeId });
  }
}

function forgetTree(fileSystem: FileSystem, { kind, nodeId }: DirectoryEntry, changes: CacheChange[]): void {
  if (kind === 'directory') for (const entry of fileSystem.entries(nodeId)) forgetTree(fileSystem, entry, changes);
  changes.push({ kind: 'node', node: nodeId });
}
