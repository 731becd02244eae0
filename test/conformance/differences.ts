/** Where a transport does not do what the others do, and why. native-notes/fuse-native.md has those of fuse-native. */

import type { CaseName } from './cases.ts';
import { DIRECT, NATIVE_ROOT, NATIVE_USER } from './transports.ts';

/** The kernel then says that all is data. */
const NO_LSEEK = 'libfuse 2.9 has no lseek';

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
  ...[NATIVE_ROOT, NATIVE_USER].flatMap((transport): Difference[] => [
    { transport, name: 'holes are where QEMU sees zeros', reason: NO_LSEEK },
    { transport, name: 'a seek finds the next data and the next hole', reason: NO_LSEEK },
    {
      transport,
      name: 'times of snapshots are exact to the nanosecond',
      reason: 'the package passes milliseconds on',
    },
  ]),
];
