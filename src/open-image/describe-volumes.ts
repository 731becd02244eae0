/** What `info.json` and `list --volumes --json` say about the volumes of a state. Keys as in `describe-image.ts`. */

import type { FileSystemProbe } from '../volumes/file-systems/file-system-probe.ts';
import type { Volume, VolumeList } from '../volumes/find-volumes.ts';
import type { PartitionTable } from '../volumes/partitions.ts';

export interface PartitionTableDescription {
  readonly kind: 'gpt' | 'dos';
  readonly sectorBytes: number;
  readonly uuid: string | null;
}

export interface FileSystemDescription {
  /** As `blkid -p` names it. */
  readonly type: string;
  readonly label: string | null;
  readonly uuid: string | null;
  /** True: it wants its journal replayed or a check, and what is read without may be old; null if that cannot be told. */
  readonly dirty: boolean | null;
}

export interface VolumeDescription {
  /** As in the image; the name of its file has it escaped. */
  readonly name: string;
  /** Where it begins on the disk; null for a logical volume. */
  readonly startBytes: number | null;
  readonly sizeBytes: number;
  /** Of a partition: the GUID of its type, or the number of MBR in hexadecimal. */
  readonly partitionType: string | null;
  readonly partitionLabel: string | null;
  readonly partitionUuid: string | null;
  readonly fileSystem: FileSystemDescription | null;
}

export interface VolumesDescription {
  readonly partitionTable: PartitionTableDescription | null;
  readonly volumes: readonly VolumeDescription[];
  readonly unsupportedVolumes: readonly {
    readonly name: string;
    readonly sizeBytes: number;
    readonly reason: string;
  }[];
  readonly volumeProblems: readonly string[];
}

/** For a state whose disk cannot be looked at. */
export function withoutVolumes(reason: string): VolumesDescription {
  return { partitionTable: null, volumes: [], unsupportedVolumes: [], volumeProblems: [reason] };
}

export function describeVolumes({ table, volumes, unsupported, problems }: VolumeList): VolumesDescription {
  return {
    partitionTable: table === undefined ? null : describeTable(table),
    volumes: volumes.map(describeVolume),
    unsupportedVolumes: unsupported.map(({ volumeGroup, name, sizeBytes, unsupported: reason = '' }) => ({
      name: `${volumeGroup}/${name}`,
      sizeBytes,
      reason,
    })),
    volumeProblems: problems,
  };
}

function describeTable({ kind, sectorBytes, uuid }: PartitionTable): PartitionTableDescription {
  return { kind, sectorBytes, uuid: uuid ?? null };
}

function describeVolume({ name, startBytes, disk, partition, fileSystem }: Volume): VolumeDescription {
  return {
    name,
    startBytes: startBytes ?? null,
    sizeBytes: disk.sizeBytes,
    partitionType: partition?.type ?? null,
    partitionLabel: partition?.name ?? null,
    partitionUuid: partition?.uuid ?? null,
    fileSystem: fileSystem === undefined ? null : describeFileSystem(fileSystem),
  };
}

function describeFileSystem({ type, label, uuid, isDirty }: FileSystemProbe): FileSystemDescription {
  return { type, label: label ?? null, uuid: uuid ?? null, dirty: isDirty ?? null };
}
