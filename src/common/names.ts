/** Names are bytes without an encoding; inside the program they are strings with one character per byte (latin1). */

/** The name as text. `isExact` is false if its bytes are not UTF-8: then some were replaced by U+FFFD. */
export function decodeName(name: string): { readonly text: string; readonly isExact: boolean } {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  return { text, isExact: Buffer.from(text, 'utf8').equals(bytes) };
}
