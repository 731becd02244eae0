/** QEMU's own tools: they write the images and say what is in them. */

import { runCommand, tryCommand } from '../support/run-command.ts';

export interface NewImage {
  readonly sizeBytes: number;
  /** `-o` options, such as `cluster_size=4096`. */
  readonly options?: readonly string[];
  /** Written into the image as it is: a relative name is relative to the image's folder. */
  readonly backing?: { readonly name: string; readonly format: string };
}

/** What `qemu-img info` says about a snapshot. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
}

/** An entry of `qemu-img map --output=json`. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  /** Not told before QEMU 8.2. */
  readonly compressed?: boolean;
  readonly offset?: number;
}

export function createImage(path: string, image: NewImage): void {
  const { backing, options = [], sizeBytes } = image;
  runCommand('qemu-img', [
    ...['create', '-q', '-f', 'qcow2'],
    ...options.flatMap((option) => ['-o', option]),
    ...(backing === undefined ? [] : ['-b', backing.name, '-F', backing.format]),
    path,
    String(sizeBytes),
  ]);
}

/** Runs `qemu-io` commands in one process. Discards reach the image. */
export function runQemuIo(path: string, commands: readonly string[]): void {
  const { status, stdout, stderr } = tryCommand('qemu-io', qemuIoArguments(path, commands));
  // With -q, a command says something only when it fails.
  if (status === 0 && stdout + stderr === '') return;
  throw new Error(`qemu-io ${path}: exit ${status}\n${commands.join('\n')}\n${stdout}${stderr}`);
}

/** As `runQemuIo`, but QEMU ends as in a power cut, after a flush: an image with lazy refcounts stays dirty. */
export function runQemuIoAndAbort(path: string, commands: readonly string[], cwd: string): void {
  const script = 'ulimit -c 0; "$@"; [ $? -eq 134 ]';
  const qemuIo = ['qemu-io', ...qemuIoArguments(path, [...commands, 'flush', 'abort'])];
  runCommand('bash', ['-c', script, 'bash', ...qemuIo], { cwd });
}

export function createSnapshot(path: string, name: string): void {
  runCommand('qemu-img', ['snapshot', '-c', name, path]);
}

/** `idOrName`: an id wins over a name. */
export function applySnapshot(path: string, idOrName: string): void {
  runCommand('qemu-img', ['snapshot', '-a', idOrName, path]);
}

export function deleteSnapshot(path: string, name: string): void {
  runCommand('qemu-img', ['snapshot', '-d', name, path]);
}

/**
 * Grows or shrinks the disk. Returns false if QEMU refuses: it cannot hide what a longer backing file has behind the old
 * end where that is in a compressed cluster with subclusters.
 */
export function resizeImage(path: string, sizeBytes: number): boolean {
  const args = ['resize', '-q', '--shrink', '-f', 'qcow2', path, String(sizeBytes)];
  const { status, stderr } = tryCommand('qemu-img', args);
  if (status === 0) return true;
  if (stderr.includes('Failed to zero out new clusters: Operation not supported')) return false;
  throw new Error(`qemu-img ${args.join(' ')}: exit ${status}\n${stderr}`);
}

export function listSnapshots(path: string): SnapshotInfo[] {
  const info = JSON.parse(runCommand('qemu-img', ['info', '--output=json', path])) as { snapshots?: SnapshotInfo[] };
  return (info.snapshots ?? []).map(({ id, name }) => ({ id, name }));
}

export function mapImage(path: string): MapEntry[] {
  return JSON.parse(mapText(path)) as MapEntry[];
}

/** As it is printed. */
export function mapText(path: string): string {
  return runCommand('qemu-img', ['map', '--output=json', '-f', 'qcow2', path]);
}

/** The holes of a file, as lseek(2) tells them. */
export function mapRawFile(path: string): MapEntry[] {
  return JSON.parse(runCommand('qemu-img', ['map', '--output=json', '-f', 'raw', path])) as MapEntry[];
}

/** Writes the current state of the image as a raw file. */
export function convertToRaw(path: string, rawPath: string): void {
  runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, rawPath]);
}

function qemuIoArguments(path: string, commands: readonly string[]): string[] {
  return ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), path];
}

/** What `qemu-img check` found, and how it ended; no counts if it gave up. */
export interface CheckReport {
  readonly status: number | null;
  readonly counts: Readonly<Record<string, number>> | undefined;
  readonly stderr: string;
}

/** `imageOptions`: in place of `-f qcow2`, with the objects they need. */
export function checkWithQemu(path: string, imageOptions: readonly string[] = ['-f', 'qcow2', path]): CheckReport {
  const { status, stdout, stderr } = tryCommand('qemu-img', ['check', '--output=json', ...imageOptions]);
  return { status, counts: stdout.startsWith('{') ? JSON.parse(stdout) : undefined, stderr };
}
