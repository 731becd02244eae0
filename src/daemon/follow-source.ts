/** Hands over to the session what its source has instead of what is served. */

import { cacheChanges } from '../filesystem/cache-change.ts';
import type { ImageSource } from './daemon.ts';
import type { DaemonOptions } from './mount-options.ts';
import type { ServedImages } from './served-images.ts';
import type { Session } from './session.ts';

/** What is served at the moment. */
export interface Serving {
  served: ServedImages;
}

/** undefined for a source that does not change. */
export function followSource(
  options: DaemonOptions,
  source: Pick<ImageSource, 'follow' | 'createFileSystem' | 'createOutline' | 'retire'>,
  serving: Serving,
  session: Pick<Session, 'replace'>,
): { stop(): void } | undefined {
  return source.follow?.(serving.served, options, (next) => {
    const before = serving.served;
    const outline = source.createOutline ?? source.createFileSystem;
    // First: if this throws, `next` was not taken over.
    const changes = cacheChanges(outline(before), outline(next));
    serving.served = next;
    void session.replace(next, changes).then(() => source.retire?.(before, next));
  });
}
