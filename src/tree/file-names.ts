/**
 * How snapshot names become file names. Names are bytes, given as strings with one character per byte (latin1).
 *
 * - `/`, `%`, control bytes (with DEL and the C1 characters of UTF-8) and bytes that are not UTF-8 become `%XX`
 * - `.` and `..` become `%2E` and `%2E%2E`, the empty name becomes `%empty`
 * - the first snapshot of a name keeps it; later ones get `%id=ID` behind it, or `%entry=N` (place in the table)
 * - a name above 255 bytes is cut and gets such an ending too
 *
 * `%` is followed by two hexadecimal digits in an escaped name, so the endings never meet one, and no two snapshots
 * share a file name.
 */

/** NAME_MAX of Linux. */
const MAX_NAME_BYTES = 255;
/** More than fits: a longer name is cut all the same, and escaping 64 KiB of each would take minutes. */
const LOOKED_AT_BYTES = MAX_NAME_BYTES + 5;

export interface NamedEntry {
  readonly name: string;
  readonly id: string;
}

/** File names for all entries, in their order, no two alike. */
export function toFileNames(entries: Iterable<NamedEntry>): string[] {
  const taken = new Set<string>();
  return Array.from(entries, ({ name, id }, index) => {
    const escaped = escapeName(name.slice(0, LOOKED_AT_BYTES));
    const endings = [`%id=${escapeName(id.slice(0, LOOKED_AT_BYTES))}`, `%entry=${index + 1}`];
    const candidates = [escaped, ...endings.map((ending) => cutTo(escaped, MAX_NAME_BYTES - ending.length) + ending)];
    const fileName = candidates.find((candidate) => candidate.length <= MAX_NAME_BYTES && !taken.has(candidate));
    // The last candidate is free: no other entry has that place.
    const chosen = fileName ?? `%entry=${index + 1}`;
    taken.add(chosen);
    return chosen;
  });
}

/** One name without regard to others; injective. */
export function escapeName(name: string): string {
  if (name === '') return '%empty';
  if (name === '.' || name === '..') return name.replaceAll('.', '%2E');
  let escaped = '';
  for (let at = 0; at < name.length; ) {
    const length = utf8SequenceLength(name, at);
    const sequence = name.slice(at, at + Math.max(1, length));
    escaped +=
      length === 0 || isControl(sequence) || sequence === '/' || sequence === '%' ? percentEncode(sequence) : sequence;
    at += sequence.length;
  }
  return escaped;
}

/** U+0000-U+001F, DEL, and U+0080-U+009F, which terminals take as commands too. */
function isControl(sequence: string): boolean {
  const first = sequence.charCodeAt(0);
  if (sequence.length === 1) return first < 0x20 || first === 0x7f;
  return first === 0xc2 && sequence.charCodeAt(1) < 0xa0;
}

function percentEncode(sequence: string): string {
  return Array.from(sequence, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`).join('');
}

/** Length of the valid UTF-8 sequence at `at`; 0 if there is none (RFC 3629, section 4). */
function utf8SequenceLength(bytes: string, at: number): number {
  const first = bytes.charCodeAt(at);
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const sequence = Buffer.from(bytes.slice(at, at + length), 'latin1');
  return Buffer.from(sequence.toString('utf8'), 'utf8').equals(sequence) ? length : 0;
}

/** At most `maxBytes` bytes of an escaped name, without cutting an escape or a character in two. */
function cutTo(escaped: string, maxBytes: number): string {
  if (escaped.length <= maxBytes) return escaped;
  let end = Math.max(0, maxBytes);
  if (escaped[end - 1] === '%') end -= 1;
  else if (escaped[end - 2] === '%') end -= 2;
  while (end > 0 && (escaped.charCodeAt(end) & 0xc0) === 0x80) end -= 1;
  return escaped.slice(0, end);
}
