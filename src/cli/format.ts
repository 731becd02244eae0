/** Text for tables: sizes, columns, and names that cannot disturb a terminal. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** `64 MiB`, `1.5 GiB`: three digits at most, in powers of 1024. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

/** Control characters, and what could pass for them, as `\x1b` or `\u202e`; the rest of the text as it is. */
export function toPrintable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** Rows of equal length as left-aligned columns, two blanks apart, one line each. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  return [...formatRows(rows)].join('');
}

/** As `formatTable`, line by line; `rows` are gone through twice. */
export function* formatRows(rows: Iterable<readonly string[]>): Generator<string> {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  for (const row of rows) {
    const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ');
    yield `${line.trimEnd()}\n`;
  }
}
