/**
 * Tells whether somebody writes to the image, without a lock of our own: even a lock to read would keep a VM from starting.
 * native-notes/qemu-locks.md has what is seen of whom.
 */

import { findLockHolder, findOpenWriter, holdsWriterLock, isOpenForWriting } from './find-writer.ts';
import { readProcText } from './proc-files.ts';
import { type Descriptor, type ImageIdentity, identifyImage, isListedAs } from './proc-identity.ts';
import { decodeLocks, isWriterLock, readLocks } from './proc-locks.ts';
import { SearchLimit } from './search-limit.ts';

export interface Writer {
  /** Undefined if the process is not to be seen: another user's, or in another PID namespace. */
  readonly pid: number | undefined;
  /** The name of the process (proc_pid_comm(5)). */
  readonly command: string | undefined;
  /** A lock of QEMU's, or a file that is open for writing. */
  readonly how: 'lock' | 'open';
}

/** For messages. */
export function nameOfWriter({ pid, command }: Writer): string {
  return command === undefined ? 'another process' : `${command} (process ${pid})`;
}

interface Locker {
  readonly writer: Writer;
  /** Undefined if none is to be seen, or as long as none was searched. */
  readonly descriptor: Descriptor | undefined;
  readonly isSearched: boolean;
}

interface Opener {
  readonly writer: Writer;
  readonly descriptor: Descriptor;
}

const UNSEEN: Writer = { pid: undefined, command: undefined, how: 'lock' };

export class WriterWatch {
  readonly #image: ImageIdentity;
  readonly #lockSearches: SearchLimit;
  readonly #openSearches: SearchLimit;
  readonly #turns: SearchLimit;
  #locker: Locker | undefined;
  /** So many of the listed locks were on other files at the last search. */
  #otherLockCount = 0;
  #opener: Opener | undefined;
  /** The image has changed, and neither a writer was seen since nor was one searched. */
  #isChangeOpen = false;

  /**
   * `fd` is our own descriptor of the image; `now` gives milliseconds of a clock that never goes back. Watches that share `turns`
   * search for open files one after the other.
   */
  constructor(fd: number, now: () => number = () => performance.now(), turns = new SearchLimit(now, 0)) {
    this.#image = identifyImage(fd);
    this.#lockSearches = new SearchLimit(now);
    this.#openSearches = new SearchLimit(now);
    this.#turns = turns;
  }

  /**
   * The writer of this moment; the same object while it is the same one. `hasChanged`: the image, since the last look. `locks` is
   * the list of a moment ago, where that is good enough.
   */
  look(hasChanged: boolean, locks?: string): Writer | undefined {
    this.#isChangeOpen ||= hasChanged;
    const writer = this.#lookForLock(locks) ?? this.#lookForOpenFile();
    if (writer !== undefined) this.#isChangeOpen = false;
    return writer;
  }

  #lookForLock(locks: string | undefined): Writer | undefined {
    const known = this.#locker;
    if (known?.descriptor !== undefined && holdsWriterLock(this.#image, known.descriptor)) return known.writer;
    const lockCount = this.#countLocks(locks) || (known === undefined ? 0 : this.#countLocks());
    if (lockCount === 0) {
      this.#locker = undefined;
      this.#otherLockCount = 0;
    } else if (known === undefined || known.descriptor !== undefined || !known.isSearched) {
      this.#searchLocker(lockCount);
    }
    return this.#locker?.writer;
  }

  /**
   * The list is longer than what one read(2) gives, and the next one goes on at a position in it: a lock can be missed
   * because one before it was just removed (fs/locks.c, locks_start). So one that was there is looked for twice.
   */
  #countLocks(text = readLocks()): number {
    return decodeLocks(text).filter((lock) => isListedAs(this.#image, lock) && isWriterLock(lock)).length;
  }

  #searchLocker(lockCount: number): void {
    const search = this.#lockSearches.run(() => findLockHolder(this.#image));
    if (search !== undefined) this.#otherLockCount = search.otherLockCount;
    const descriptor = search?.holder;
    // A lock whose holder is not to be seen may be on the image, unless all that are listed are known to be on other files.
    const isOnImage = descriptor !== undefined || lockCount > this.#otherLockCount;
    const writer = descriptor === undefined ? UNSEEN : describeWriter(descriptor, 'lock');
    this.#locker = isOnImage ? { writer, descriptor, isSearched: search !== undefined } : undefined;
  }

  #lookForOpenFile(): Writer | undefined {
    const known = this.#opener;
    if (known !== undefined && isOpenForWriting(this.#image, known.descriptor)) return known.writer;
    const search = () => this.#openSearches.run(() => this.#searchOpener());
    this.#opener = this.#isChangeOpen ? this.#turns.run(search) : undefined;
    return this.#opener?.writer;
  }

  #searchOpener(): Opener | undefined {
    this.#isChangeOpen = false;
    const descriptor = findOpenWriter(this.#image);
    return descriptor && { writer: describeWriter(descriptor, 'open'), descriptor };
  }
}

function describeWriter({ pid }: Descriptor, how: Writer['how']): Writer {
  return { pid, command: readProcText(`/proc/${pid}/comm`)?.replace(/\n$/, ''), how };
}
