/** Notices what happens to an image while it is served, and opens it anew when that changes what there is to show. */

import { isDeepStrictEqual } from 'node:util';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { describeInfo } from '../open-image/describe-image.ts';
import { ImageStatus } from '../open-image/image-status.ts';
import { reusingKeys } from '../open-image/layer-keys.ts';
import { closeLayers, filesOfLayers, imageFileOf, toQcow2File } from '../open-image/layers.ts';
import { type OpenImage, openImage } from '../open-image/open-image.ts';
import { readHead } from '../qcow2/header-head.ts';
import { isSameTable, readSnapshotTable } from '../qcow2/snapshots.ts';
import { isSettled, type OpenFile } from '../storage/file-storage.ts';
import { unpinFile } from '../storage/pinned-file.ts';
import { announceWriters, isMarked, markBusy } from './announce-writers.ts';
import { ChainWatch, type ChainWriters } from './chain-watch.ts';
import { areSameContents, nextBlocks } from './content-blocks.ts';
import {
  firstTargetOf,
  type ImageSignature,
  NOWHERE,
  openedSignatureOf,
  signatureOf,
  targetOf,
  tryToPin,
} from './image-signature.ts';
import type { DaemonOptions } from './mount-options.ts';
import { describedWith, ownershipOf, requireReadable, type ServedImage, type ServingOptions } from './served-image.ts';

type WatchOptions = ServingOptions & Pick<DaemonOptions, 'mountpoint'>;

export class ImageWatch {
  readonly #options: WatchOptions;
  #served: ServedImage;
  readonly #watch = new ChainWatch();
  /** As the log has it: what is served may be from before, if it cannot be opened anew. */
  #writers: ChainWriters;
  #writerCount = 0;
  #lowerWriterCount = 0;
  #signature: ImageSignature;
  /** What is served has to be opened again, even if nothing happens to its files. */
  #isDoubtful: boolean;
  #lastFailure: string | undefined;
  #isMoved = false;
  /** What the path of the image led to when it was opened last, with the place; undefined for nothing, or if it is not followed. */
  #target: string | undefined;
  /** The same of what is served: that is part of who may read it. */
  #servedTarget: string | undefined;

  constructor(served: ServedImage, options: WatchOptions) {
    this.#options = options;
    this.#served = served;
    this.#target = this.#servedTarget = firstTargetOf(served, options.mountpoint);
    this.#signature = openedSignatureOf(served.image, this.#target);
    this.#isDoubtful = !this.#isRestPointless(served.writers) && !isAtRest(served.image);
    this.#writers = served.writers;
    this.#watch.follow(served.image.layers);
  }

  /** True if the next look should come soon, as a change may be too young to show in the time stamps. */
  get isDoubtful(): boolean {
    return this.#isDoubtful && this.#lastFailure === undefined;
  }

  /**
   * What is to be served from now on, if that has changed. The caller closes what was served before.
   * @param locks the list of a moment ago
   * @throws what the system says if it cannot be looked: too many open files, for instance.
   */
  look(locks?: string): ServedImage | undefined {
    const { image } = this.#served;
    const before = this.#signature;
    const signature = signatureOf(this.#served, this.#options.mountpoint);
    const hasImageChanged = !isDeepStrictEqual(signature.image, before.image);
    const othersChanged = signature.others.map((other, index) => !isDeepStrictEqual(other, before.others[index]));
    // Whoever has changed one may have locked it since the list was made.
    const writers = this.#watch.look(image.layers, [hasImageChanged, ...othersChanged], locks);
    this.#noteWriters(writers);
    const { writer, lowerWriter } = writers;
    const areSameWriters = isDeepStrictEqual(writers, this.#served.writers);
    // Who may read it follows from these, also while it is written to.
    const hasAccessChanged = !isDeepStrictEqual(accessOf(signature), accessOf(before));
    // A virtual machine that runs mostly changes what is behind header and snapshot table.
    const mayDiffer =
      !areSameWriters ||
      // An opening that failed may have left what readers are told as it was.
      !isMarked(this.#served.status, writers) ||
      ((lowerWriter === undefined || this.#options.isCurrentLive) && othersChanged.includes(true)) ||
      hasAccessChanged ||
      this.#lastFailure !== undefined ||
      (!this.#isRestPointless(writers) && this.#isDoubtful) ||
      ((hasImageChanged || imageFileOf(image.layers).isBlockDevice) && (writer === undefined || !this.#isSameTable()));
    const next = mayDiffer ? this.#tryToOpen(writers) : undefined;
    // Not before: what a look that fails has found must be found by the next one.
    this.#signature = next === undefined ? signature : this.#signatureAfter(next.image, signature);
    if (next === undefined) return undefined;
    try {
      return this.#compare(next);
    } catch (error) {
      closeLayers(next.image.layers);
      throw error;
    }
  }

  /** A path that still leads to nothing is no change. */
  #signatureAfter(next: OpenImage, looked: ImageSignature): ImageSignature {
    const { isPathFollowed } = this.#served;
    if (!isPathFollowed || this.#target !== undefined) return openedSignatureOf(next, this.#target);
    // If it still led there when it was looked at, that is not what is served now.
    const looksGone = looked.image?.target.startsWith(NOWHERE) === true;
    return openedSignatureOf(next, looksGone ? looked.image?.target : NOWHERE);
  }

  #noteWriters(writers: ChainWriters): void {
    markBusy(this.#served.status, writers);
    const before = this.#writers;
    this.#writers = writers;
    const { writer, lowerWriter } = writers;
    const hasLowerCome = lowerWriter !== undefined && !isDeepStrictEqual(lowerWriter, before.lowerWriter);
    if (hasLowerCome) this.#lowerWriterCount++;
    if (hasLowerCome || (writer !== undefined && !isDeepStrictEqual(writer, before.writer))) this.#writerCount++;
    announceWriters(this.#served.imagePath, before, writers, this.#options.isCurrentLive);
  }

  /**
   * True if it does not matter whether what was opened is at rest: it cannot be read, or is read anew with each change. The tables of
   * files below are not, for a live current state.
   */
  #isRestPointless({ writer, lowerWriter }: ChainWriters): boolean {
    if (lowerWriter !== undefined) return !this.#options.isCurrentLive;
    return writer !== undefined;
  }

  #isSameTable(): boolean {
    const { layers, qcow2, head, snapshotMemory } = this.#served.image;
    const [layer] = layers;
    if (layer === undefined) return false;
    const file = toQcow2File(layer, qcow2);
    return readHead(file.storage, qcow2).equals(head) && isSameTable(snapshotMemory, readSnapshotTable(file).memory);
  }

  /** Closes what shows nothing new. */
  #compare(next: ServedImage): ServedImage | undefined {
    const before = this.#served;
    const { image } = next;
    const isSame =
      isDeepStrictEqual(next.writers, before.writers) &&
      next.status === before.status &&
      isDeepStrictEqual(next.ownership, before.ownership) &&
      areSameContents(next.contents, before.contents) &&
      isDeepStrictEqual(image.problems, before.image.problems) &&
      // What was opened too soon after a change is not to be relied on, also if nothing came behind it.
      (this.#isRestPointless(next.writers) || isAtRest(image) === isAtRest(before.image));
    this.#servedTarget = this.#target;
    if (isSame) {
      closeLayers(image.layers);
      return undefined;
    }
    for (const problem of image.problems) if (!before.image.problems.includes(problem)) warn(`warning: ${problem}`);
    this.#watch.follow(image.layers);
    this.#served = next;
    return next;
  }

  /**
   * An image that was moved or deleted while it is open is still there, and may go on being written to.
   * @throws Qcow2fsError REFUSED for a path that has become one to a file of our own mount; what `openImage` throws.
   */
  #open(): OpenImage {
    const { image: previous, imagePath, isPathFollowed } = this.#served;
    const { mountpoint } = this.#options;
    const file = imageFileOf(previous.layers);
    const pinned = isPathFollowed ? tryToPin(imagePath, mountpoint) : undefined;
    try {
      const isMoved = isPathFollowed && !file.isBlockDevice && pinned === undefined;
      if (isMoved && !this.#isMoved) warn(`${imagePath} was moved or deleted: it is shown until it is unmounted`);
      this.#isMoved = isMoved;
      this.#target = pinned && targetOf(pinned);
      const openPath = pinned?.openPath ?? `/proc/self/fd/${file.fd}`;
      const chain = { ...this.#options.chain, forbiddenFolder: mountpoint };
      return openImage(imagePath, reusingKeys(previous), chain, { previous, openPath });
    } finally {
      if (pinned !== undefined) unpinFile(pinned);
    }
  }

  /** Other files than those that were looked at have other writers. */
  #writersOf({ layers }: OpenImage, found: ChainWriters): ChainWriters {
    const files = filesOfLayers(layers);
    const before = filesOfLayers(this.#served.image.layers);
    const identitiesOf = (each: readonly OpenFile[]) => each.map(({ identity }) => identity);
    if (isDeepStrictEqual(identitiesOf(files), identitiesOf(before))) return found;
    return this.#watch.lookFirst(layers, undefined);
  }

  /** What cannot be opened now is shown as it was: reads still find out by themselves what is left of it. */
  #tryToOpen(found: ChainWriters): ServedImage | undefined {
    const before = this.#served;
    try {
      const image = this.#open();
      try {
        requireReadable(image);
        const writers = this.#writersOf(image, found);
        const writing = {
          isBeingWritten: writers.writer !== undefined,
          writerCount: this.#writerCount,
          lowerWriterCount: this.#lowerWriterCount,
        };
        const isSameText = isDeepStrictEqual(writers, before.writers) && haveSameDescription(image, before.image);
        const contents = nextBlocks(before.contents, before.image, image, writing, isSameText);
        const next = {
          ...before,
          image,
          contents,
          ...describedWith(image, this.#options.onMissing, writers),
          status: statusOf(before, writers),
          ownership:
            this.#target === this.#servedTarget && haveSameAccess(image, before.image)
              ? before.ownership
              : ownershipOf(image, this.#options, this.#options.mountpoint),
        };
        this.#noteWriters(writers);
        this.#isDoubtful = !this.#isRestPointless(writers) && !isAtRest(image);
        this.#lastFailure = undefined;
        return next;
      } catch (error) {
        closeLayers(image.layers);
        throw error;
      }
    } catch (error) {
      if (!(error instanceof Qcow2fsError)) throw error;
      this.#isDoubtful = true;
      if (error.message !== this.#lastFailure) warn(`${messageOf(error)}; ${consequenceOf(error)}`);
      this.#lastFailure = error.message;
      return undefined;
    }
  }
}

function consequenceOf({ code }: Qcow2fsError): string {
  const remedy = code === 'LOCKED' ? 'mount it again for that; ' : '';
  return `${remedy}what was mounted of it stays as it was, and what has changed since cannot be read`;
}

/**
 * What was opened before a writer was there stays busy when he has gone: on a block device nothing else tells that its tables
 * are not those of the current state any more.
 */
function statusOf({ status }: ServedImage, writers: ChainWriters): SharedArrayBuffer {
  if (isMarked(status, writers)) return status;
  const next = ImageStatus.continueMemory(status);
  markBusy(next, writers);
  return next;
}

function accessOf({ image, others }: ImageSignature): unknown {
  return [image, ...others].map((each) => [each?.access, each?.target]);
}

/** To ask for access control lists takes a process: only if something else about who may read has changed. */
function haveSameAccess(image: OpenImage, before: OpenImage): boolean {
  const accesses = [image, before].map(({ layers }) =>
    filesOfLayers(layers).map(({ path, identity, mode, uid, gid }) => [path, identity, mode, uid, gid]),
  );
  return isDeepStrictEqual(accesses[0], accesses[1]);
}

function haveSameDescription(image: OpenImage, before: OpenImage): boolean {
  const [now, then] = [image, before].map((each) => ({ ...describeInfo(each), snapshots: null }));
  return isDeepStrictEqual(now, then) && isSameTable(image.snapshotMemory, before.snapshotMemory);
}

/** A change from now on is sure to show in the time stamps. */
function isAtRest({ layers }: OpenImage): boolean {
  return filesOfLayers(layers).every(isSettled);
}
