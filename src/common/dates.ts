/** Dates as everything here writes them: ISO 8601, UTC. */

/** `2026-11-16T02:00:00Z` */
export function toIsoDate(secondsSince1970: number): string {
  return new Date(secondsSince1970 * 1000).toISOString().replace('.000Z', 'Z');
}

/** `2026-11-16T020000Z`: without the colons, which many tools take for something else in a file name. */
export function toDateFileName(secondsSince1970: number): string {
  return toIsoDate(secondsSince1970).replaceAll(':', '');
}
