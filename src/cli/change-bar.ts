/** One line that shows where on a disk ranges are. */

/** From a little to all of what a character stands for. */
const LEVELS = '.:+#';
const NOTHING = ' ';

export function changeBar(
  ranges: Iterable<{ readonly start: number; readonly length: number }>,
  sizeBytes: number,
  width: number,
): string {
  const changed = new Float64Array(width);
  const bytesPerCharacter = sizeBytes / width;
  for (const { start, length } of ranges) {
    const end = start + length;
    for (let at = Math.floor(start / bytesPerCharacter); at < width && at * bytesPerCharacter < end; at++) {
      const from = Math.max(start, at * bytesPerCharacter);
      const to = Math.min(end, (at + 1) * bytesPerCharacter);
      changed[at] = (changed[at] ?? 0) + Math.max(0, to - from);
    }
  }
  return Array.from(changed, (bytes) => {
    if (bytes === 0) return NOTHING;
    const level = Math.ceil((bytes / bytesPerCharacter) * LEVELS.length);
    return LEVELS[Math.min(LEVELS.length, Math.max(1, level)) - 1];
  }).join('');
}
