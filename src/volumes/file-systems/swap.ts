/**
 * Linux swap areas, also with a hibernated system in them. The magic ends the first page; the header of version 1 is at 1024
 * (include/linux/swap.h), in the byte order of the machine that made it:
 *
 * | offset | size | field                                                  |
 * |--------|------|--------------------------------------------------------|
 * |      0 |    4 | version                                                |
 * |      4 |    4 | last_page                                              |
 * |      8 |    4 | nr_badpages                                            |
 * |     12 |   16 | sws_uuid                                               |
 * |     28 |   16 | sws_volume                                             |
 * |    172 |    8 | padding that libblkid wants to be zero for the two above |
 */

import { decodeLabel, decodeUuid, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import type { ProbeSource } from './probe-source.ts';

const HEADER_OFFSET = 1024;
const HEADER_BYTES = 180;
const MAGIC_BYTES = 10;
const PAGE_BYTES = [4096, 8192, 16384, 32768, 65536];
const MINIMUM_BYTES = 10 * 4096;

/** Written by TuxOnIce over the first bytes. */
const TUX_ON_ICE_MAGIC = '\xed\xc3\x02\xe9\x98\x56\xe5\x0c';
const SUSPEND_MAGICS = ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'];

export const swsuspend: Prober = {
  minimumBytes: MINIMUM_BYTES,
  probe(source): FileSystemProbe | undefined {
    const isSuspended =
      source.has(0, TUX_ON_ICE_MAGIC) ||
      PAGE_BYTES.some((pageBytes) => {
        const magic = source.read(pageBytes - MAGIC_BYTES, MAGIC_BYTES)?.toString('latin1');
        return magic !== undefined && SUSPEND_MAGICS.some((name) => magic.startsWith(name));
      });
    return isSuspended ? describe('swsuspend', source.read(HEADER_OFFSET, HEADER_BYTES), undefined) : undefined;
  },
};

export const swap: Prober = {
  minimumBytes: MINIMUM_BYTES,
  probe(source): FileSystemProbe | undefined {
    if (source.has(0, TUX_ON_ICE_MAGIC)) return undefined;
    for (const pageBytes of PAGE_BYTES) {
      const magic = source.read(pageBytes - MAGIC_BYTES, MAGIC_BYTES)?.toString('latin1');
      if (magic === 'SWAP-SPACE') return describe('swap', undefined, undefined);
      if (magic === 'SWAPSPACE2') return describeVersion1(source, pageBytes);
    }
    return undefined;
  },
};

function describeVersion1(source: ProbeSource, pageBytes: number): FileSystemProbe | undefined {
  const header = source.read(HEADER_OFFSET, HEADER_BYTES);
  if (header === undefined) return undefined;
  const isLittleEndian = header.readUInt32LE(0) === 1;
  if (!isLittleEndian && header.readUInt32BE(0) !== 1) return undefined;
  const lastPage = isLittleEndian ? header.readUInt32LE(4) : header.readUInt32BE(4);
  return lastPage === 0 ? undefined : describe('swap', header, toSizeBytes(lastPage + 1, pageBytes));
}

/** Version 0 has neither label nor UUID. There is nothing in a swap area to be recovered. */
function describe(type: string, header: Buffer | undefined, sizeBytes: number | undefined): FileSystemProbe {
  const named = header?.readBigUInt64LE(172) === 0n ? header : undefined;
  return {
    type,
    label: named && decodeLabel(named.subarray(28, 44)),
    uuid: named && decodeUuid(named.subarray(12, 28)),
    isDirty: undefined,
    sizeBytes,
  };
}
