/** The directories below `volumes/` of a state: a file for each volume, and links by the names that it is known by. */

import type { NodeId } from '../filesystem/file-system.ts';
import type { VolumeEntry } from './catalogue.ts';
import { type Directory, directory, entry } from './directories.ts';
import { toFileNames } from './file-names.ts';
import { nodeInBlock, SLOT, VOLUME_PART, type VolumePart, volumeSlot } from './node-ids.ts';

const ENDING = '.raw';

/** A directory of links, named as in /dev/disk. */
interface LinkDirectory {
  readonly name: string;
  readonly slot: number;
  readonly part: VolumePart;
  readonly linkNameOf: (volume: VolumeEntry) => string | undefined;
}

const LINK_DIRECTORIES: readonly LinkDirectory[] = [
  { name: 'by-label', slot: SLOT.byLabel, part: VOLUME_PART.byLabel, linkNameOf: ({ label }) => label },
  { name: 'by-uuid', slot: SLOT.byUuid, part: VOLUME_PART.byUuid, linkNameOf: ({ uuid }) => uuid },
  {
    name: 'by-partlabel',
    slot: SLOT.byPartitionLabel,
    part: VOLUME_PART.byPartitionLabel,
    linkNameOf: ({ partitionLabel }) => partitionLabel,
  },
];

/** The names of the files in `volumes/` for volumes with these names, in their order (both latin1). */
export function volumeFileNames(names: readonly string[]): string[] {
  // One that comes later has its place behind its name: volume groups may have the same name.
  return toFileNames(names.map((name, index) => ({ name: `${name}${ENDING}`, id: String(index + 1) })));
}

export class VolumeDirectories {
  readonly #block: number;
  readonly #volumes: readonly VolumeEntry[];
  readonly #fileNames: readonly string[];

  /** `block` is the one of the state. */
  constructor(block: number, volumes: readonly VolumeEntry[]) {
    this.#block = block;
    this.#volumes = volumes;
    this.#fileNames = volumeFileNames(volumes.map(({ name }) => name));
  }

  /** `volumes/` itself. */
  get top(): Directory {
    const links = LINK_DIRECTORIES.filter((links) => this.#links(links).length > 0);
    return directory([
      ...links.map(({ name, slot }) => entry(name, nodeInBlock(this.#block, slot), 'directory')),
      ...this.#fileNames.map((name, index) => entry(name, this.#node(index, VOLUME_PART.file), 'file')),
    ]);
  }

  /** The directory of links with this slot; undefined if there are none in it. */
  linkDirectory(slot: number): Directory | undefined {
    const found = LINK_DIRECTORIES.find((links) => links.slot === slot);
    const links = found === undefined ? [] : this.#links(found);
    if (found === undefined || links.length === 0) return undefined;
    const names = toFileNames(links.map(({ name, index }) => ({ name, id: String(index + 1) })));
    return directory(
      links.map(({ index }, place) => entry(names[place] ?? '', this.#node(index, found.part), 'symlink')),
    );
  }

  /** Where the links of a volume lead to (latin1). */
  targetOf(index: number): string {
    return `../${this.#fileNames[index]}`;
  }

  /** True if the volume with this place has that part. */
  has(index: number, part: number): boolean {
    const volume = this.#volumes[index];
    if (volume === undefined) return false;
    const links = LINK_DIRECTORIES.find((each) => each.part === part);
    return part === VOLUME_PART.file || (links?.linkNameOf(volume) ?? '') !== '';
  }

  /** The slot of the directory that has this part of a volume in it. */
  static directorySlotOf(part: number): number {
    return LINK_DIRECTORIES.find((links) => links.part === part)?.slot ?? SLOT.volumes;
  }

  #links({ linkNameOf }: LinkDirectory): { readonly name: string; readonly index: number }[] {
    return this.#volumes.flatMap((volume, index) => {
      const name = linkNameOf(volume);
      return name === undefined || name === '' ? [] : [{ name, index }];
    });
  }

  #node(index: number, part: VolumePart): NodeId {
    return nodeInBlock(this.#block, volumeSlot(index, part));
  }
}
