/** Compares `map --json` of a state with what QEMU prints. */

import { expect } from 'vitest';
import { toJson } from '../../src/cli/map-command.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { mapState } from '../../src/open-image/map-state.ts';
import type { TrueState } from './truth.ts';

export function expectSameMap(imagePath: string, { snapshot, map }: TrueState, title: string): void {
  const state = snapshot === undefined ? 'current' : `id:${snapshot.id}`;
  const { entries } = mapState(imagePath, state, { chain: NO_CHAIN_OPTIONS, writerOf: () => undefined });
  expect([...toJson(entries)].join(''), title).toBe(map);
}
