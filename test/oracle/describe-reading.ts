/** Reads a whole disk piece by piece, past its errors, and says in a few words what it gave. */

const PIECE_BYTES = 4096;

/**
 * `right` if all is as in `truth`, `invented` if other bytes came; otherwise the ranges that failed, each with what `codeOf`
 * calls its error: `EIO 0+4096`. Bytes beside such a range must be right, or the whole is `invented`.
 */
export function describeReading(
  truth: Buffer,
  read: (offset: number, length: number) => Buffer,
  codeOf: (error: unknown) => string,
): string {
  const failed: { code: string; offset: number; length: number }[] = [];
  for (let offset = 0; offset < truth.length; offset += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, truth.length - offset);
    try {
      if (!read(offset, length).equals(truth.subarray(offset, offset + length))) return 'invented';
    } catch (error) {
      const code = codeOf(error);
      const last = failed.at(-1);
      if (last?.code === code && last.offset + last.length === offset) last.length += length;
      else failed.push({ code, offset, length });
    }
  }
  if (failed.length === 0) return 'right';
  return failed.map(({ code, offset, length }) => `${code} ${offset}+${length}`).join(', ');
}
