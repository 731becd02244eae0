/** The disks of an open image as files that give exact bytes or errors, also while the image is written to. */

import type { Disk, Extent } from '../disk/disk.ts';
import { seekData, seekHole } from '../disk/walk.ts';
import { Qcow2fsError } from '../errors.ts';
import type { MissingRanges } from '../storage/missing-ranges.ts';
import { findVolumes, type VolumeList } from '../volumes/find-volumes.ts';
import { ChangeGuard } from './change-guard.ts';
import type { ImageStatus } from './image-status.ts';
import type { OpenImage } from './open-image.ts';
import { StateDisks } from './state-disks.ts';

/** A table moves under the same read again only if the read takes about as long as snapshots last. */
const MAX_ATTEMPTS = 64;

/** The volumes on the disk of a state. */
export interface StateVolumes {
  readonly list: VolumeList;
  /** One for each of `list.volumes`. */
  readonly files: readonly StateFile[];
}

const NO_VOLUMES: StateVolumes = {
  list: { table: undefined, volumes: [], unsupported: [], problems: ['not looked for while the state changes'] },
  files: [],
};

type Guard = Pick<ChangeGuard, 'confirm'>;

/** Believes all that is read. */
const NO_GUARD: Guard = { confirm: () => true };

const CURRENT = 0;

/** `disk.raw` or `vmstate.bin` of a state: its disk, of which nothing is believed before it is confirmed. */
export class StateFile implements Disk {
  readonly #disk: Disk;
  readonly #guard: Guard;
  readonly #status: ImageStatus;
  readonly #state: number;

  constructor(disk: Disk, guard: Guard, status: ImageStatus, state: number) {
    this.#disk = disk;
    this.#guard = guard;
    this.#status = status;
    this.#state = state;
  }

  get sizeBytes(): number {
    return this.#disk.sizeBytes;
  }

  /** @throws Qcow2fsError as `readAt`. */
  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.exact(() => this.#disk.extentAt(offset, maxLengthBytes, into));
  }

  /**
   * As `Disk.readAt`.
   * @throws Qcow2fsError what the disk throws, if it is about bytes of the state; STALE or BUSY if these cannot be told.
   */
  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      let failure: unknown;
      try {
        this.#disk.readAt(target, targetOffset, offset, length);
      } catch (error) {
        failure = error;
      }
      if (!this.#confirm()) continue;
      // Only now it is known that it is about the state, and not about whatever was found in its place.
      if (failure !== undefined) throw failure;
      return;
    }
    throw tooManyAttempts();
  }

  seekData(offset: number): number | undefined {
    return this.exact(() => seekData(this.#disk, offset));
  }

  seekHole(offset: number): number {
    return this.exact(() => seekHole(this.#disk, offset));
  }

  /** As `Disk.allocatedBytes`. */
  allocatedBytes(): number {
    return this.exact(() => this.#disk.allocatedBytes());
  }

  metadataBytes(): number {
    return this.exact(() => this.#disk.metadataBytes());
  }

  /**
   * The value that `make` has from the disk, which it may be called for several times.
   * @throws Qcow2fsError as `readAt`.
   */
  exact<Value>(make: () => Value): Value {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      let failure: unknown;
      let value: Value | undefined;
      try {
        value = make();
      } catch (error) {
        failure = error;
      }
      if (!this.#confirm()) continue;
      if (failure !== undefined) throw failure;
      return value as Value;
    }
    throw tooManyAttempts();
  }

  #confirm(): boolean {
    try {
      const isExact = this.#guard.confirm(this.#state);
      if (!isExact) this.#status.countRepeatedRead();
      return isExact;
    } catch (error) {
      this.#status.countRefusedRead();
      throw error;
    }
  }
}

export class StateFiles {
  readonly #disks: StateDisks;
  readonly #guard: ChangeGuard;
  readonly #status: ImageStatus;
  readonly #isCurrentLive: boolean;
  readonly #files: (StateFile | undefined)[] = [];
  readonly #vmStates: (StateFile | undefined)[] = [];
  readonly #volumes: (StateVolumes | undefined)[] = [];

  /**
   * `missing` is as for `StateDisks`. With `isCurrentLive` the current state is read even while somebody writes to it, in
   * whatever state its bytes are.
   * @throws Qcow2fsError DAMAGED if the state of a backing file cannot be read.
   */
  constructor(image: OpenImage, status: ImageStatus, missing?: MissingRanges, isCurrentLive = false) {
    this.#disks = new StateDisks(image, missing);
    this.#guard = new ChangeGuard(image, status);
    this.#status = status;
    this.#isCurrentLive = isCurrentLive;
  }

  /** True if what is read of the state may be something else the next time. */
  isVolatile(state: number): boolean {
    return state === CURRENT && this.#isCurrentLive;
  }

  /**
   * States are numbered as in `StateDisks`.
   * @throws Qcow2fsError DAMAGED, NOT_FOUND.
   */
  disk(state: number): StateFile {
    let file = this.#files[state];
    if (file === undefined) {
      file = this.isVolatile(state)
        ? new StateFile(this.#disks.liveCurrent(), NO_GUARD, this.#status, state)
        : new StateFile(this.#disks.disk(state), this.#guard, this.#status, state);
      this.#files[state] = file;
    }
    return file;
  }

  /** @throws Qcow2fsError NOT_FOUND. */
  vmState(state: number): StateFile {
    let file = this.#vmStates[state];
    if (file === undefined) {
      file = new StateFile(this.#disks.vmState(state), this.#guard, this.#status, state);
      this.#vmStates[state] = file;
    }
    return file;
  }

  /**
   * What is on the disk of a state, looked for when it is first asked for. One that is volatile is not looked at: what is found
   * would not be there any more.
   * @throws Qcow2fsError DAMAGED, NOT_FOUND; STALE or BUSY: it cannot be told now.
   */
  volumes(state: number): StateVolumes {
    let volumes = this.#volumes[state];
    if (volumes === undefined) {
      volumes = this.isVolatile(state) ? NO_VOLUMES : this.#findVolumes(state);
      this.#volumes[state] = volumes;
    }
    return volumes;
  }

  /**
   * As the list of `volumes`, but nothing of it is kept here: for who looks at many states, each once.
   * @throws Qcow2fsError as `volumes`.
   */
  listVolumes(state: number): VolumeList {
    return this.isVolatile(state) ? NO_VOLUMES.list : this.#findList(state, this.#disks.createDisk(state));
  }

  /**
   * As `listVolumes`, with the disk that the volumes are windows on.
   * @throws Qcow2fsError as `volumes`.
   */
  placedVolumes(state: number): { readonly disk: Disk; readonly list: VolumeList } {
    const disk = this.#disks.disk(state);
    return { disk, list: this.#findList(state, disk) };
  }

  #findVolumes(state: number): StateVolumes {
    const list = this.#findList(state, this.#disks.disk(state));
    const files = list.volumes.map(({ disk }) => new StateFile(disk, this.#guard, this.#status, state));
    return { list, files };
  }

  #findList(state: number, disk: Disk): VolumeList {
    this.#guard.requireNotBusy(state);
    return new StateFile(disk, this.#guard, this.#status, state).exact(() => findVolumes(disk));
  }

  /** @throws Qcow2fsError STALE or BUSY: what the state holds cannot be told now. */
  requireReadable(state: number): void {
    if (this.isVolatile(state)) return;
    this.#guard.requireNotBusy(state);
    while (!this.#guard.confirm(state)) this.#status.countRepeatedRead();
  }
}

function tooManyAttempts(): Qcow2fsError {
  return new Qcow2fsError('STALE', `the snapshot table moved under each of ${MAX_ATTEMPTS} attempts to read`);
}
