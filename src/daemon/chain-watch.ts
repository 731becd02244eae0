/** Tells who writes to an image, and to the files that it stands on. */

import { filesOfLayers, type Layer } from '../open-image/layers.ts';
import { isSettled, type OpenFile } from '../storage/file-storage.ts';
import { SearchLimit } from './search-limit.ts';
import { type Writer, WriterWatch } from './writer-watch.ts';

/** Who writes to a file below an image. */
export interface LowerWriter {
  readonly path: string;
  /** Its place in `filesOfLayers`. */
  readonly index: number;
  readonly writer: Writer;
}

/** Plain data. */
export interface ChainWriters {
  /** Of the image and its data file: the current state cannot be read. */
  readonly writer: Writer | undefined;
  /** Of the first file below that has one: no state can be read. */
  readonly lowerWriter: LowerWriter | undefined;
}

export class ChainWatch {
  /** By the identity of the file. */
  readonly #watches = new Map<string, WriterWatch>();
  /** A search looks at each open file of the machine: many files that change together must not cost as many. */
  readonly #turns = new SearchLimit(() => performance.now(), 0);

  /**
   * The writers of this moment; `layers` are open. `hasChanged`, for each of `filesOfLayers`: since the last look. `locks` is the list of
   * a moment ago; it is not good enough for a file that has changed since, nor for an image of which nothing tells whether it has.
   */
  look(layers: readonly Layer[], hasChanged: readonly boolean[], locks: string | undefined): ChainWriters {
    const files = filesOfLayers(layers);
    const writers = files.map((file, index) => {
      const isListYoung = hasChanged[index] !== true && !(index === 0 && file.isBlockDevice);
      return this.#watchOf(file).look(hasChanged[index] === true, isListYoung ? locks : undefined);
    });
    const ownCount = filesOfLayers(layers.slice(0, 1)).length;
    const index = writers.findIndex((each, place) => place >= ownCount && each !== undefined);
    const [file, writer] = [files[index], writers[index]];
    return {
      writer: writers.slice(0, ownCount).find((each) => each !== undefined),
      lowerWriter: file === undefined || writer === undefined ? undefined : { path: file.path, index, writer },
    };
  }

  /** As `look`, of files that were just opened: what was written to a moment ago counts as changed. */
  lookFirst(layers: readonly Layer[], locks: string | undefined): ChainWriters {
    return this.look(
      layers,
      filesOfLayers(layers).map((file) => !isSettled(file)),
      locks,
    );
  }

  /** From now on it is about the files of `layers`: those may not be there to be looked at any more when somebody asks. */
  follow(layers: readonly Layer[]): void {
    const files = filesOfLayers(layers);
    for (const file of files) this.#watchOf(file);
    const kept = new Set(files.map(({ identity }) => identity));
    for (const identity of this.#watches.keys()) if (!kept.has(identity)) this.#watches.delete(identity);
  }

  #watchOf({ fd, identity }: OpenFile): WriterWatch {
    const watch = this.#watches.get(identity) ?? new WriterWatch(fd, undefined, this.#turns);
    this.#watches.set(identity, watch);
    return watch;
  }
}
