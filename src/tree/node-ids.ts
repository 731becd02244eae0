/**
 * Inode numbers. A state has a block of 2^16 of them, so that its nodes never move, whatever other states there are:
 * block 0 is the tree's own, block 1 the current state, block n + 1 the snapshot with place n (from 1) in the table.
 */

import { Qcow2fsError } from '../errors.ts';
import { type NodeId, ROOT_NODE_ID } from '../filesystem/file-system.ts';

const BLOCK = 0x1_0000;

export const IMAGE_JSON: NodeId = 2;
export const SNAPSHOTS: NodeId = 3;
export const BY_ID: NodeId = 4;
export const BY_DATE: NodeId = 5;

/** The nodes that a state has; by their place in its block. */
export const SLOT = { directory: 0, disk: 1, info: 2, byIdLink: 3, byDateLink: 4, vmState: 5 } as const;
export type Slot = (typeof SLOT)[keyof typeof SLOT];

/** A node id that is nobody's. */
export function noSuchNode(node: NodeId): Qcow2fsError {
  return new Qcow2fsError('NOT_FOUND', `there is no node ${node}`, { data: { node } });
}

export function stateNode(state: number, slot: Slot): NodeId {
  return (state + 1) * BLOCK + slot;
}

/** The state that a node belongs to, or -1 for one of the tree's own. */
export function stateOf(node: NodeId): number {
  return node < BLOCK ? -1 : Math.floor(node / BLOCK) - 1;
}

export function slotOf(node: NodeId): number {
  return node % BLOCK;
}

/** True for the directories of the tree itself. */
export function isTreeDirectory(node: NodeId): boolean {
  return node === ROOT_NODE_ID || node === SNAPSHOTS || node === BY_ID || node === BY_DATE;
}
