/** Files of a tree, by their paths from the root of the mount. */

import { type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';

/** An empty path is the root. */
export function findNode(tree: FileSystem, path: string): NodeId {
  let node: NodeId = ROOT_NODE_ID;
  for (const name of path === '' ? [] : path.split('/')) {
    const next = tree.lookup(node, name);
    if (next === undefined) throw new Error(`no ${path}`);
    node = next;
  }
  return node;
}

/** All that is in a file. */
export function textOf(tree: FileSystem, path: string): string {
  const node = findNode(tree, path);
  const target = Buffer.alloc(tree.attributes(node).sizeBytes);
  return target.toString('utf8', 0, tree.read(node, target, 0, 0, target.length));
}
