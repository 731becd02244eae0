/** Where a transport does not do what the others do, and why. native-notes/fuse-native.md has the same table. */

import type { CaseName } from './cases.ts';
import { DIRECT } from './transports.ts';

export interface Difference {
  readonly transport: string;
  readonly name: CaseName;
  readonly reason: string;
}

export const DIFFERENCES: readonly Difference[] = [
  { transport: DIRECT, name: 'nothing can be written', reason: 'it has no operation that writes' },
  { transport: DIRECT, name: 'a seek from the end on finds nothing', reason: 'its contract leaves this to its caller' },
  {
    transport: DIRECT,
    name: 'an offset that no number has exactly is behind the end',
    reason: 'its contract leaves this to its caller',
  },
];
