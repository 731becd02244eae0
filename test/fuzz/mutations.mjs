/** Ways to damage an image: by its structure, or blindly. */

const TWO_TO_64 = 1n << 64n;

/** A file that is being damaged. `dirty` are the ranges that differ from the healthy file; its length may differ, too. */
export class Target {
  constructor(file) {
    this.file = file;
    this.bytes = file.bytes;
    this.sizeBytes = file.healthy.length;
    this.dirty = [];
    this.log = [];
  }

  write(position, bytes) {
    const end = Math.min(this.bytes.length, position + bytes.length);
    if (position < 0 || position >= end) return;
    bytes.copy(this.bytes, position, 0, end - position);
    this.dirty.push([position, end - position]);
  }

  writeNumber(position, width, value) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(((value % TWO_TO_64) + TWO_TO_64) % TWO_TO_64);
    this.write(position, bytes.subarray(8 - width));
  }

  readNumber(position, width) {
    if (position + width > this.bytes.length) return 0n;
    return BigInt(`0x${this.bytes.toString('hex', position, position + width)}`);
  }

  isTouched(position, length) {
    return this.dirty.some(([at, bytes]) => at < position + length && position < at + bytes);
  }
}

/** Applies one to four mutations and returns true if none of them can change which bytes a state has. */
export function mutate(target, random) {
  const count = random.chance(0.6) ? 1 : 2 + random.below(3);
  let isIdle = true;
  for (let round = 0; round < count; round++) {
    const mutation = random.pick(MUTATIONS);
    const done = mutation(target, random);
    if (done !== 'idle') isIdle = false;
  }
  return isIdle;
}

const number = (kind) => (target, random) => {
  const places = target.file.structure[kind];
  if (places.length === 0) return flipBytes(target, random);
  const [name, position, width] = random.pick(places);
  const value = interestingNumber(target, random, target.readNumber(position, width), width);
  target.log.push(`${name} (${width} bytes at ${position}) = 0x${BigInt.asUintN(width * 8, value).toString(16)}`);
  target.writeNumber(position, width, value);
};

/** Bytes within a kind of range: compressed data, the LUKS header, names. */
const within = (kind) => (target, random) => {
  const ranges = target.file.structure[kind];
  if (ranges.length === 0) return flipBytes(target, random);
  const [start, length] = random.pick(ranges);
  if (length > 0) scribble(target, random, start, length, kind);
};

function idle(target, random) {
  const ranges = target.file.structure.idle;
  if (ranges.length === 0) return flipBytes(target, random);
  const [start, length] = random.pick(ranges);
  scribble(target, random, start, length, 'idle bytes');
  return 'idle';
}

function flipBytes(target, random) {
  const { length } = target.bytes;
  const limit = random.chance(0.3) ? Math.min(512, length) : length;
  scribble(target, random, 0, limit, 'blind');
}

function scribble(target, random, start, length, what) {
  const count = 1 + random.below(4);
  for (let round = 0; round < count; round++) {
    const at = start + random.below(length);
    const before = Number(target.readNumber(at, 1));
    const value = random.pick([before ^ (1 << random.below(8)), random.below(256), 0, 255]);
    target.log.push(`${what}: byte at ${at} = ${value}`);
    target.write(at, Buffer.of(value));
  }
}

function truncate(target, random) {
  const { length } = target.file.healthy;
  const { clusterBytes } = target.file.structure;
  const whole = Math.floor(random.below(length) / clusterBytes) * clusterBytes;
  target.sizeBytes = random.pick([
    random.below(length),
    random.below(Math.min(length, 600)),
    ...[whole, whole + 1, whole + 512, length - 1, length - clusterBytes],
  ]);
  target.sizeBytes = Math.max(0, target.sizeBytes);
  target.log.push(`the file has ${target.sizeBytes} bytes`);
}

/** One entry, or a whole run of entries, of one table comes from another place. */
function copyRange(target, random) {
  const { structure } = target.file;
  const places = random.pick([structure.l1Entries, structure.l2Entries, structure.snapshots, structure.fields]);
  if (places.length === 0) return flipBytes(target, random);
  const length = random.pick([8, 16, 64, 512]);
  const from = random.pick(places)[1];
  const to = random.pick(places)[1];
  target.log.push(`${length} bytes from ${from} to ${to}`);
  target.write(to, Buffer.from(target.bytes.subarray(from, from + length)));
}

/** Tables that are all alike: all zero, all compressed, all one cluster, all out of reach. */
function fillTable(target, random) {
  const { structure } = target.file;
  const places = random.chance(0.7) ? structure.l2Entries : structure.l1Entries;
  if (places.length === 0) return flipBytes(target, random);
  const [name, position] = random.pick(places);
  const old = target.readNumber(position, 8);
  const value = interestingNumber(target, random, old, 8);
  const count = 1 + random.below(512);
  const table = Buffer.alloc(count * 8);
  for (let index = 0; index < count; index++) table.writeBigUInt64BE(BigInt.asUintN(64, value), index * 8);
  target.log.push(`${count} entries from ${name} on = 0x${BigInt.asUintN(64, value).toString(16)}`);
  target.write(position, table);
}

/** Tables that lie over one another, as long as they may be, most of them with a place of their own to end. */
function shareTables(target, random) {
  const { clusterBytes, tables } = target.file.structure;
  if (tables.length === 0) return flipBytes(target, random);
  const cluster = BigInt(random.below(target.file.healthy.length / clusterBytes + 2));
  const size = BigInt(random.pick([1, 64, clusterBytes, 4_194_304]));
  const isEach = random.chance(0.5);
  for (const [name, offsetAt, sizeAt] of tables) {
    const shorter = isEach ? BigInt(random.below(Number(size))) : 0n;
    target.log.push(`the table of ${name} is at cluster ${cluster} and has ${size - shorter} entries`);
    target.writeNumber(offsetAt, 8, cluster * BigInt(clusterBytes));
    target.writeNumber(sizeAt, 4, size - shorter);
  }
}

const BACKING_NAMES = [
  'image.qcow2',
  './image.qcow2',
  'file:image.qcow2',
  'file:',
  '.',
  '..',
  '/',
  '/etc/passwd',
  '/dev/zero',
  '/dev/null',
  '/dev/tty',
  'nbd://localhost/x',
  'base.qcow2',
  'base.raw',
  'json:',
  'json:{',
  'json:[]',
  'json:null',
  'json:"x"',
  'json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}',
  'json:{"driver":"raw","file.filename":"base.qcow2"}',
  'json:{"driver":{"__proto__":1},"file":{"filename":"base.qcow2"}}',
  'json:{"driver":[{"toString":1}]}',
  'json:{"driver":"file","filename":["base.qcow2"]}',
  'json:{"file":{"driver":[{"toString":null,"valueOf":null}],"filename":"base.qcow2"}}',
  `json:${'{"a":'.repeat(140)}1${'}'.repeat(140)}`,
  `json:${'['.repeat(450)}${']'.repeat(450)}`,
  `json:{"driver":${'['.repeat(450)}${']'.repeat(450)}}`,
  'x'.repeat(1023),
  '../'.repeat(340),
  'a\0b',
  '\xff\xfe',
  '',
];

function backingName(target, random) {
  const { clusterBytes } = target.file.structure;
  const name = Buffer.from(random.pick(BACKING_NAMES), 'latin1');
  const offset = Math.max(112, clusterBytes - 1024 - random.below(16));
  target.log.push(`backing name at ${offset}: ${JSON.stringify(name.toString('latin1'))}`);
  target.writeNumber(8, 8, BigInt(offset));
  target.writeNumber(16, 4, BigInt(name.length));
  target.write(offset, name);
}

function interestingNumber(target, random, old, width) {
  const { clusterBytes, l1Entries, l2Entries } = target.file.structure;
  const cluster = BigInt(clusterBytes);
  const size = BigInt(target.file.healthy.length);
  switch (random.below(8)) {
    case 0:
      return old ^ (1n << BigInt(random.below(width * 8)));
    case 1:
      return random.pick([old + 1n, old - 1n, old + cluster, old - cluster, old + 512n, old * 2n, ~old]);
    case 2:
      return 1n << BigInt(random.below(width * 8));
    case 3:
      return random.pick([0n, 1n, 2n, 3n, 7n, 8n, 9n, 16n, 21n, 22n, 31n, 32n, 63n, 64n, 72n, 104n, 112n]);
    case 4:
      return random.pick([511n, 512n, cluster, cluster - 1n, size, size - 1n, size - cluster, size + cluster]);
    case 5:
      return random.pick([
        ...[0xffn, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, (1n << 53n) - 1n, 1n << 53n],
        ...[1n << 55n, (1n << 56n) - 512n, (1n << 62n) | 512n, 1n << 63n, TWO_TO_64 - 1n, TWO_TO_64 - 512n],
        ...[65535n, 65536n, 65537n, 1024n, 1025n, 4_194_304n, 4_194_305n],
      ]);
    case 6: {
      // What another table is at, or what another entry refers to: loops and shared clusters.
      const places = random.chance(0.5) ? l1Entries : l2Entries;
      return places.length === 0 ? cluster : target.readNumber(random.pick(places)[1], 8);
    }
    default:
      return (BigInt(random.below(target.file.healthy.length / clusterBytes + 2)) * cluster) | (old & (0xffn << 56n));
  }
}

const MUTATIONS = [
  ...[number('fields'), number('fields'), number('extensions'), number('l1Entries'), number('l2Entries')],
  ...[number('l2Entries'), number('snapshots'), number('bitmaps'), number('luksFields')],
  ...[within('compressed'), within('luks'), within('names'), idle, flipBytes, flipBytes, truncate],
  ...[copyRange, fillTable, shareTables, backingName],
];
