/** Keeps what a mount shows up to date with its images. */

import { warn } from '../common/logging.ts';
import { messageOf } from '../errors.ts';
import { closeLayers } from '../open-image/layers.ts';
import { ImageWatch } from './image-watch.ts';
import type { DaemonOptions } from './mount-options.ts';
import { readLocksAside } from './proc-locks.ts';
import type { ServedImage } from './served-image.ts';
import { assemble, type ServedImages } from './served-images.ts';

/** A change is to be seen within a second. */
const INTERVAL_MS = 200;
/** Just above the ticks of time stamps: what was written to a moment ago can be relied on then. */
const DOUBTFUL_INTERVAL_MS = 60;

/** To open an image with tens of thousands of snapshots takes long: it must not keep a processor busy. */
const REST_PER_LOOK = 4;

const CANNOT_LOOK = 'cannot tell whether the images have changed';
const CANNOT_SHOW = 'the images have changed, and what is new cannot be shown yet';

/**
 * Calls `onChange` with what is to be served instead, on this thread, until it is stopped. It owns what it was given once it
 * returns; if it throws, it is called again at the next look.
 */
export function followImages(
  served: ServedImages,
  options: DaemonOptions,
  onChange: (next: ServedImages) => void,
): { stop(): void } {
  const watches = served.images.map((image) => new ImageWatch(image, options));
  let images = served.images;
  let { images: handedOver } = served;
  let timer: NodeJS.Timeout;
  let isStopped = false;
  let lastFailure: string | undefined;
  /** Closes what nobody was given, except what is in `kept`. The keys of what is closed are those of what is served. */
  const closeExcept = (kept: readonly ServedImage[]) => {
    for (const [index, image] of images.entries()) {
      if (image !== handedOver[index] && image !== kept[index]) closeLayers(image.image.layers);
    }
  };
  const look = async () => {
    // Hidden or not to be read: each image then says so by itself.
    const locks = await readLocksAside().catch(() => undefined);
    if (isStopped) return;
    const startedAt = performance.now();
    let failure: string | undefined;
    // Too many open files, for instance: what is shown stays exact, it only is not the newest.
    const trying = <Value>(what: string, step: () => Value): Value | undefined => {
      try {
        return step();
      } catch (error) {
        failure = `${what}: ${messageOf(error)}`;
        return undefined;
      }
    };
    // An image that cannot be looked at keeps nothing from the others: each tells of a change once.
    const next = images.map((image, index) => trying(CANNOT_LOOK, () => watches[index]?.look(locks)) ?? image);
    closeExcept(next);
    images = next;
    if (next.some((image, index) => image !== handedOver[index])) {
      trying(CANNOT_SHOW, () => {
        onChange(assemble(next, options, served.scratch));
        handedOver = next;
      });
    }
    if (failure !== undefined && failure !== lastFailure) warn(failure);
    lastFailure = failure;
    schedule(performance.now() - startedAt);
  };
  const schedule = (lookMs: number) => {
    const usualMs = watches.some(({ isDoubtful }) => isDoubtful) ? DOUBTFUL_INTERVAL_MS : INTERVAL_MS;
    timer = setTimeout(() => void look(), Math.max(usualMs, lookMs * REST_PER_LOOK));
  };
  schedule(0);
  return {
    stop: () => {
      if (isStopped) return;
      isStopped = true;
      clearTimeout(timer);
      closeExcept([]);
    },
  };
}
