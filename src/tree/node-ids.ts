/**
 * Inode numbers. Whatever has contents of its own, a state or `image.json`, has a block of 2^16 of them, and a block is never
 * used again: contents that change get another block, so that no open file and no cached page can meet them. Block 0 is
 * that of the tree's own directories, which stay.
 */

import { Qcow2fsError } from '../errors.ts';
import { type NodeId, ROOT_NODE_ID } from '../filesystem/file-system.ts';

const BLOCK_NODES = 0x1_0000;

export const SNAPSHOTS: NodeId = 2;
export const BY_ID: NodeId = 3;
export const BY_DATE: NodeId = 4;
export const CURRENT: NodeId = 5;

/** The nodes in a block. That of the current state has no directory and no links, that of `image.json` only itself. */
export const SLOT = {
  directory: 0,
  disk: 1,
  info: 2,
  byIdLink: 3,
  byDateLink: 4,
  vmState: 5,
  imageJson: 6,
  volumes: 7,
  byLabel: 8,
  byUuid: 9,
  byPartitionLabel: 10,
} as const;

/** From here on each volume has four: its file, and its links in the three directories above. */
const FIRST_VOLUME_SLOT = 16;
const VOLUME_SLOTS = 4;

/** Which of its slots: the file, or the link in the directory of that name. */
export const VOLUME_PART = { file: 0, byLabel: 1, byUuid: 2, byPartitionLabel: 3 } as const;
export type VolumePart = (typeof VOLUME_PART)[keyof typeof VOLUME_PART];

/** The slot of a part of the volume with this place. */
export function volumeSlot(index: number, part: VolumePart): number {
  return FIRST_VOLUME_SLOT + index * VOLUME_SLOTS + part;
}

/** The volume that a slot is of, and which part; undefined for other slots. */
export function volumeOfSlot(slot: number): { readonly index: number; readonly part: number } | undefined {
  const place = slot - FIRST_VOLUME_SLOT;
  return place < 0 ? undefined : { index: Math.floor(place / VOLUME_SLOTS), part: place % VOLUME_SLOTS };
}

/** A node id that is nobody's. */
export function noSuchNode(node: NodeId): Qcow2fsError {
  return new Qcow2fsError('NOT_FOUND', `there is no node ${node}`, { data: { node } });
}

/** `block` is 1 or more. */
export function nodeInBlock(block: number, slot: number): NodeId {
  return block * BLOCK_NODES + slot;
}

export function blockOf(node: NodeId): number {
  return Math.floor(node / BLOCK_NODES);
}

export function slotOf(node: NodeId): number {
  return node % BLOCK_NODES;
}

/** True for the directories of the tree itself. */
export function isTreeDirectory(node: NodeId): boolean {
  return node === ROOT_NODE_ID || (node >= SNAPSHOTS && node <= CURRENT);
}
