/** Probes a file with this project's reader and with libblkid's. */

import fs from 'node:fs';
import path from 'node:path';
import type { Qcow2fsError } from '../../../src/errors.ts';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { FileStorage, openFile } from '../../../src/storage/file-storage.ts';
import type { FileSystemProbe } from '../../../src/volumes/file-systems/file-system-probe.ts';
import { probeFileSystem } from '../../../src/volumes/file-systems/probe-file-system.ts';
import { tryCommand } from '../../support/run-command.ts';

/** Exit statuses of `blkid -p` (blkid(8)). */
const NOTHING_FOUND = 2;
const AMBIVALENT = 8;

export interface BlkidAnswer {
  readonly type: string;
  readonly label: string | undefined;
  readonly uuid: string | undefined;
}

/** What libblkid says about the file system in a file. */
export function askBlkid(file: string): BlkidAnswer | 'nothing' | 'ambivalent' {
  const { status, stdout, stderr } = tryCommand('blkid', [
    '-p',
    '-o',
    'udev',
    '--usages',
    'filesystem,raid,crypto,other',
    file,
  ]);
  if (status === NOTHING_FOUND) return 'nothing';
  if (status === AMBIVALENT) return 'ambivalent';
  if (status !== 0) throw new Error(`blkid: exit ${status}\n${stderr}`);
  const values = new Map(stdout.split('\n').map((line) => line.split(/=(.*)/s, 2) as [string, string]));
  const type = values.get('ID_FS_TYPE');
  if (type === undefined) return 'nothing';
  return {
    type,
    label: decodeEscapes(values.get('ID_FS_LABEL_ENC')),
    uuid: decodeEscapes(values.get('ID_FS_UUID_ENC')),
  };
}

/** blkid_encode_string(): bytes as \xHH, valid UTF-8 as it is. */
function decodeEscapes(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text).toString('latin1');
  return Buffer.from(
    bytes.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  ).toString();
}

export interface Outcome {
  readonly probe: FileSystemProbe | undefined;
  readonly problems: readonly Qcow2fsError[];
}

/** What this project says about the file system in a file. */
export function probeFile(file: string): Outcome {
  const opened = openFile(file);
  try {
    const problems: Qcow2fsError[] = [];
    const probe = probeFileSystem(new RawDisk(new FileStorage(opened)), (problem) => problems.push(problem));
    return { probe, problems };
  } finally {
    fs.closeSync(opened.fd);
  }
}

/** The part of a probe that libblkid tells as well. */
export function nameOnly({ probe }: Outcome): BlkidAnswer | 'nothing' {
  return probe === undefined ? 'nothing' : { type: probe.type, label: probe.label, uuid: probe.uuid };
}

/** A sparse file of zeros. */
export function makeEmptyFile(folder: string, sizeBytes: number, name = 'disk.raw'): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, sizeBytes);
  return file;
}
