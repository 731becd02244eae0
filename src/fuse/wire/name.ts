/** A NUL-terminated name in a request. */

/**
 * The name at `offset` as latin1, one character per byte, since file names are bytes. Undefined when the request ends
 * without a NUL, or when the name is empty.
 */
export function decodeName(request: Buffer, offset: number, requestBytes: number): string | undefined {
  const end = request.indexOf(0, offset);
  if (end <= offset || end >= requestBytes) return undefined;
  return request.toString('latin1', offset, end);
}
