/** Small healthy images to damage: written by QEMU's tools, once for each run. */

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { runMeasuring } from '../support/run-measuring.mjs';
import { findStructure } from './structure.mjs';

export const PASSPHRASE = 'open sesame';
const SECRET = ['--object', `secret,id=s0,data=${PASSPHRASE}`];
const ESSIV = ['encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256'];
const LUKS = ['encrypt.format=luks', 'encrypt.key-secret=s0', 'encrypt.iter-time=10'];

/** `disk` is the virtual size in KiB; `weight` is how often an image is taken, since some cost more than others. */
const RECIPES = [
  { title: 'version 2, 512 byte clusters', options: ['compat=0.10', 'cluster_size=512'], disk: 256, weight: 4 },
  { title: 'version 2, 64 KiB clusters', options: ['compat=0.10'], disk: 1024, weight: 2 },
  { title: 'version 3, 512 byte clusters', options: ['cluster_size=512'], disk: 256, weight: 4 },
  { title: 'version 3, 4 KiB clusters', options: ['cluster_size=4k', 'refcount_bits=8'], disk: 512, weight: 4 },
  { title: 'version 3, 64 KiB clusters', options: [], disk: 1024, weight: 3 },
  { title: '2 MiB clusters', options: ['cluster_size=2M'], disk: 16_384, weight: 0.2, snapshots: 1 },
  { title: 'wide refcounts', options: ['cluster_size=1k', 'refcount_bits=64'], disk: 256, weight: 2 },
  { title: 'zstd', options: ['cluster_size=4k', 'compression_type=zstd'], disk: 512, weight: 4 },
  { title: 'zstd, 64 KiB clusters', options: ['compression_type=zstd'], disk: 1024, weight: 2 },
  { title: 'extended L2', options: ['cluster_size=16k', 'extended_l2=on'], disk: 1024, weight: 4 },
  { title: 'extended L2, zstd', options: ['extended_l2=on', 'compression_type=zstd'], disk: 2048, weight: 2 },
  { title: 'LUKS', options: ['cluster_size=4k', ...LUKS], disk: 256, weight: 2, isEncrypted: true },
  {
    title: 'legacy AES',
    options: ['cluster_size=4k', 'encrypt.format=aes', 'encrypt.key-secret=s0'],
    ...{ disk: 256, weight: 2, isEncrypted: true },
  },
  {
    title: 'LUKS, CBC and ESSIV, above a backing file',
    options: ['cluster_size=4k', ...LUKS, 'encrypt.cipher-alg=aes-128', 'encrypt.cipher-mode=cbc', ...ESSIV],
    ...{ disk: 256, weight: 2, isEncrypted: true, backing: 'qcow2' },
  },
  { title: 'refcounts of 1 bit', options: ['cluster_size=4k', 'refcount_bits=1'], disk: 256, weight: 1, snapshots: 0 },
  {
    title: 'refcounts of 2 bits',
    options: ['cluster_size=4k', 'refcount_bits=2'],
    // Compressed clusters share a cluster of the file, which cannot count that far.
    ...{ disk: 256, weight: 1, isCompressed: false },
  },
  { title: 'data file', options: ['cluster_size=4k'], disk: 256, weight: 2, dataFile: ['data_file=image.data'] },
  {
    title: 'raw data file',
    options: ['cluster_size=4k'],
    ...{ disk: 256, weight: 1, dataFile: ['data_file=image.data', 'data_file_raw=on'] },
  },
  { title: 'qcow2 backing file', options: ['cluster_size=4k'], disk: 256, weight: 3, backing: 'qcow2' },
  { title: 'raw backing file', options: ['cluster_size=4k'], disk: 256, weight: 2, backing: 'raw' },
  { title: 'bitmaps', options: ['cluster_size=4k'], disk: 256, weight: 3, bitmaps: 3 },
  { title: 'lazy refcounts, 100 snapshots', options: ['cluster_size=512'], disk: 64, weight: 1, snapshots: 100 },
];

/** Makes all images below `folder`. An image is a list of files; the first one is opened. */
export function makeCorpus(folder) {
  const images = RECIPES.map((recipe, index) => makeImage(path.join(folder, `healthy-${index}`), recipe));
  return [...images, ...handMade()];
}

function makeImage(folder, recipe) {
  const { title, disk, weight, isEncrypted, backing, dataFile = [], bitmaps = 0 } = recipe;
  const hasDataFile = dataFile.length > 0;
  // Neither snapshots nor compressed clusters go with a data file.
  const { snapshots = hasDataFile ? 0 : 2, isCompressed = !isEncrypted && !hasDataFile } = recipe;
  const options = [...recipe.options, ...dataFile];
  fs.mkdirSync(folder);
  const tool = (name, args) => execFileSync(name, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  const name = 'image.qcow2';
  const names = hasDataFile ? [name, 'image.data'] : [name];
  if (backing !== undefined) {
    names.push(`base.${backing}`);
    tool('qemu-img', ['create', '-q', '-f', backing, names[1], `${disk / 2}k`]);
    tool('qemu-io', ['-f', backing, '-c', `write -P 7 0 ${disk / 4}k`, names[1]]);
  }
  const opened = isEncrypted
    ? ['--image-opts', `driver=qcow2,encrypt.key-secret=s0,file.filename=${name}`]
    : ['-f', 'qcow2', name];
  const secret = isEncrypted ? SECRET : [];
  const create = [
    ...['create', '-q', ...secret, '-f', 'qcow2'],
    ...(options.length === 0 ? [] : ['-o', options.join(',')]),
    ...(backing === undefined ? [] : ['-b', names[1], '-F', backing]),
    ...[name, `${disk}k`],
  ];
  runMeasuring('qemu-img', create, { cwd: folder });
  const write = (...commands) => tool('qemu-io', [...secret, ...commands.flatMap((each) => ['-c', each]), ...opened]);
  const snapshot = (each) => tool('qemu-img', ['snapshot', ...secret, '-c', each, ...(isEncrypted ? opened : [name])]);
  const half = disk / 2;
  if (isCompressed) write(`write -c -P 1 0 ${half / 4}k`, `write -c -P 2 ${half}k ${half / 4}k`);
  write(`write -P 3 ${half / 2}k ${half / 8}k`, `write -P 4 ${half + half / 2}k 3k`);
  for (let index = 0; index < snapshots; index++) snapshot(`night ${index}`);
  write(`write -P 5 ${half / 2}k ${half / 16}k`, `write -z ${half + half / 4}k ${half / 8}k`);
  for (let index = 0; index < bitmaps; index++) {
    tool('qemu-img', ['bitmap', '--add', '-g', '512', name, `bitmap-${index}`]);
  }
  const files = names.map((each) => toFile(each, fs.readFileSync(path.join(folder, each))));
  fs.rmSync(folder, { recursive: true });
  return { title, weight, isEncrypted: isEncrypted === true, files };
}

function toFile(name, healthy) {
  return { name, healthy, structure: findStructure(healthy) };
}

/** What QEMU would not write, but a reader may meet. */
function handMade() {
  const cluster = 65536;
  // All L1 entries refer to one table, whose entries refer to the header, to itself, and out of the file.
  const shared = buildHeader(16, 2 ** 32, 8, 3 * cluster, 6 * cluster);
  for (let index = 0; index < 8; index++) shared.writeBigUInt64BE(4n * 65536n, 3 * cluster + index * 8);
  for (let index = 0; index < 8192; index++) {
    shared.writeBigUInt64BE([0n, 1n, 4n * 65536n, 1n << 50n, 5n * 65536n][index % 5], 4 * cluster + index * 8);
  }
  // The L1 table is its own L2 table, and the header its own L1 table.
  const loop = buildHeader(9, 2 ** 15, 64, 0, 4096);
  for (let index = 0; index < 64; index++) loop.writeBigUInt64BE(1024n, 1024 + index * 8);
  loop.writeBigUInt64BE(1024n, 40);
  // A file that is nothing but L1 entries, all of them odd multiples of 512 within it.
  const unaligned = buildHeader(12, 2 ** 31, 1024, 4096, 64 * 1024);
  for (let at = 4096; at < unaligned.length; at += 8) unaligned.writeBigUInt64BE(BigInt((at % 127) * 512), at);
  return [
    { title: 'tables that are not aligned', weight: 1, isEncrypted: false, files: [toFile('image.qcow2', unaligned)] },
    { title: 'one L2 table for 4 GiB', weight: 1, isEncrypted: false, files: [toFile('image.qcow2', shared)] },
    { title: 'a table of itself', weight: 2, isEncrypted: false, files: [toFile('image.qcow2', loop)] },
    { title: 'an empty file', weight: 0.1, isEncrypted: false, files: [toFile('image.qcow2', Buffer.alloc(1))] },
  ];
}

function buildHeader(clusterBits, size, l1Size, l1Offset, lengthBytes) {
  const bytes = Buffer.alloc(lengthBytes);
  bytes.write('QFI\xfb', 0, 'latin1');
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(clusterBits, 20);
  bytes.writeBigUInt64BE(BigInt(size), 24);
  bytes.writeUInt32BE(l1Size, 36);
  bytes.writeBigUInt64BE(BigInt(l1Offset), 40);
  bytes.writeBigUInt64BE(BigInt(2 ** clusterBits), 48);
  bytes.writeUInt32BE(1, 56);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(112, 100);
  return bytes;
}
