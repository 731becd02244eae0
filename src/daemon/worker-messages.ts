/** What main and its workers tell each other. */

import type { ErrorCode } from '../errors.ts';
import type { ServeOptions } from '../fuse/exchange.ts';
import type { SessionEnd } from '../fuse/session-loop.ts';
import type { ServedImages } from './served-images.ts';

/** What is to be served, and how often it was exchanged before. */
export interface Generation {
  readonly number: number;
  readonly served: ServedImages;
}

/** `workerData` of a worker. */
export interface WorkerData {
  readonly slot: number;
  readonly generation: Generation;
  readonly control: SharedArrayBuffer;
  readonly options: ServeOptions;
}

/** From a worker to main. */
export type WorkerMessage =
  /** It has its file system and serves as soon as there is a mount. */
  | { readonly type: 'ready' }
  /** It could not get its file system, and ends. */
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string }
  /** It answered FUSE_INIT. */
  | { readonly type: 'initialized'; readonly outcome: 'accepted' | 'refused' }
  /** It knows that there is a newer generation than its own, and waits for it as the one message that main sends. */
  | { readonly type: 'outdated' }
  /** It took a request, and nobody is left to take the next one. */
  | { readonly type: 'growth-wanted' }
  /** The mount has ended. */
  | { readonly type: 'ended'; readonly end: SessionEnd };
