/** Encrypted images, written and read by QEMU's tools. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { runMeasuring } from '../support/run-measuring.mjs';
import { Random } from './random.ts';
import type { TrueState } from './truth.ts';

const MIB = 1024 * 1024;

/** An image file and what QEMU needs to open it. */
export interface EncryptedImage {
  readonly path: string;
  /** undefined for an image that is not encrypted. */
  readonly passphrase: string | undefined;
  /** The image below. */
  readonly backing?: EncryptedImage;
}

export interface NewEncryptedImage extends EncryptedImage {
  /** `-o` options: `encrypt.format=luks`, … */
  readonly options: readonly string[];
  readonly sizeBytes: number;
}

/**
 * QEMU takes two seconds to measure how fast it can hash. So an empty image is made once in a run for the same options, and
 * copied for all who want one, which then have the same key.
 */
export function createEncryptedImage(image: NewEncryptedImage): void {
  const { backing, options, sizeBytes } = image;
  const encryption = image.passphrase === undefined ? [] : ['encrypt.key-secret=s0', ...options];
  const args = [
    ...['create', '-q', ...secretObjects(image), '-f', 'qcow2'],
    ...(encryption.length === 0 ? [] : ['-o', encryption.join(',')]),
    ...(backing === undefined ? [] : ['-u', '-b', path.basename(backing.path), '-F', 'qcow2']),
  ];
  const size = String(sizeBytes);
  // A data file is beside its image, and empty images that are not encrypted are made at once.
  const isAlone = !options.some((option) => option.startsWith('data_file'));
  if (encryption.length === 0 || !isAlone) {
    runMeasuring('qemu-img', [...args, image.path, size]);
    return;
  }
  const kept = path.join(
    os.tmpdir(),
    `empty-${createHash('sha256')
      .update(JSON.stringify([args, size]))
      .digest('hex')}`,
  );
  if (!fs.existsSync(kept)) {
    const fresh = `${kept}.${process.pid}`;
    runMeasuring('qemu-img', [...args, fresh, size]);
    fs.renameSync(fresh, kept);
  }
  // As QEMU makes it, a file that is there is written over.
  fs.copyFileSync(kept, image.path);
}

export function writeEncrypted(image: EncryptedImage, commands: readonly string[]): void {
  const args = ['-d', 'unmap', ...commands.flatMap((command) => ['-c', command])];
  const { status, stdout, stderr } = tryCommand('qemu-io', [...args, ...imageArguments(image)]);
  // With -q, a command says something only when it fails.
  if (status !== 0 || stdout + stderr !== '')
    throw new Error(`qemu-io ${image.path}: exit ${status}\n${stdout}${stderr}`);
}

/** Grows the disk by clusters that are allocated, and that nothing is written to. */
export function growEncrypted(image: EncryptedImage, sizeBytes: number): void {
  runCommand('qemu-img', ['resize', '-q', '--preallocation=metadata', ...imageArguments(image), String(sizeBytes)]);
}

/** `flag` is that of `qemu-img snapshot`. */
export function changeSnapshot(image: EncryptedImage, flag: '-a' | '-c' | '-d', idOrName: string): void {
  runCommand('qemu-img', ['snapshot', flag, idOrName, ...imageArguments(image)]);
}

/** Adds a passphrase to a key slot. */
export function addKeySlot(image: EncryptedImage, slot: number, passphrase: string): void {
  runMeasuring('qemu-img', [
    ...['amend', '-q', '--object', `secret,id=new,data=${passphrase}`],
    ...['-o', `encrypt.state=active,encrypt.new-secret=new,encrypt.keyslot=${slot},encrypt.iter-time=10`],
    ...imageArguments(image),
  ]);
}

export function removeKeySlot(image: EncryptedImage, slot: number): void {
  runCommand('qemu-img', [
    ...['amend', '-q', '-o', `encrypt.state=inactive,encrypt.keyslot=${slot}`],
    ...imageArguments(image),
  ]);
}

export function encryptedSnapshots(image: EncryptedImage): { id: string; name: string }[] {
  const info = JSON.parse(runCommand('qemu-img', ['info', '--output=json', image.path])) as {
    snapshots?: { id: string; name: string }[];
  };
  return (info.snapshots ?? []).map(({ id, name }) => ({ id, name }));
}

/** As `trueStates`: what QEMU reads in each state, as raw files in `folder`. */
export function encryptedTrueStates(image: EncryptedImage, folder: string): TrueState[] {
  const convert = (from: EncryptedImage, rawPath: string) =>
    runCommand('qemu-img', ['convert', '-O', 'raw', ...imageArguments(from), rawPath]);
  const mapOf = (from: EncryptedImage) => runCommand('qemu-img', ['map', '--output=json', ...imageArguments(from)]);
  const rawPath = `${folder}/current.raw`;
  const current = { snapshot: undefined, title: 'the current state', rawPath, map: mapOf(image) };
  convert(image, rawPath);
  return [
    current,
    ...encryptedSnapshots(image).map((snapshot) => {
      const rawPath = `${folder}/snapshot-${snapshot.id}.raw`;
      const copy = { ...image, path: `${image.path}.copy` };
      fs.copyFileSync(image.path, copy.path);
      changeSnapshot(copy, '-a', snapshot.id);
      convert(copy, rawPath);
      const map = mapOf(copy);
      fs.rmSync(copy.path);
      return { snapshot, title: `snapshot ${snapshot.id} (${snapshot.name})`, rawPath, map };
    }),
  ];
}

/** Data, zeros and holes in a current state and two snapshots. Expects 4 MiB or more. */
export function fillEncrypted(image: EncryptedImage, folder: string, seed: number): void {
  const pattern = path.join(folder, 'pattern');
  fs.writeFileSync(pattern, new Random(seed).bytes(MIB + 512));
  writeEncrypted(image, [`write -q -s ${pattern} 0 1M`, `write -q -s ${pattern} 1500k 700k`]);
  changeSnapshot(image, '-c', 'first');
  writeEncrypted(image, [`write -q -s ${pattern} 513k 300k`, 'write -q -z -u 64k 128k', 'write -q -z 1600k 5k']);
  changeSnapshot(image, '-c', 'second');
  writeEncrypted(image, ['discard -q 0 64k', `write -q -s ${pattern} 3000k 1000k`, `write -q -s ${pattern} 511k 1k`]);
  fs.rmSync(pattern);
}

/** Secrets and the image, as arguments of any tool. */
function imageArguments(image: EncryptedImage): string[] {
  const options = chainOf(image).flatMap(({ passphrase }, depth) => {
    const prefix = 'backing.'.repeat(depth);
    const key = passphrase === undefined ? [] : [`${prefix}encrypt.key-secret=s${depth}`];
    return [`${prefix}driver=qcow2`, ...key];
  });
  return [...secretObjects(image), '--image-opts', [...options, `file.filename=${image.path}`].join(',')];
}

function secretObjects(image: EncryptedImage): string[] {
  return chainOf(image).flatMap(({ passphrase }, depth) =>
    passphrase === undefined ? [] : ['--object', `secret,id=s${depth},data=${passphrase}`],
  );
}

function chainOf(image: EncryptedImage): EncryptedImage[] {
  return [image, ...(image.backing === undefined ? [] : chainOf(image.backing))];
}
