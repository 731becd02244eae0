/** Names are bytes without an encoding; inside the program they are strings with one character per byte (latin1). */

/** The name as text. `isExact` is false if its bytes are not UTF-8: then some were replaced by U+FFFD. */
export function decodeName(name: string): { readonly text: string; readonly isExact: boolean } {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  return { text, isExact: Buffer.from(text, 'utf8').equals(bytes) };
}

/**
 * What to add to the message that nothing is at `path`: Node.js takes arguments for UTF-8 and puts U+FFFD in place of other
 * bytes, so that it looks for another name than the one that was given.
 */
export function notUtf8Hint(path: string, remedy: string): string {
  return path.includes('\ufffd') ? `; a path that is not UTF-8 cannot be given: ${remedy}` : '';
}
