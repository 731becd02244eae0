/** Where the fields and tables of a healthy image lie: what mutations aim at. */

const HEADER_FIELDS = [
  ['magic', 0, 4],
  ['version', 4, 4],
  ['backing_file_offset', 8, 8],
  ['backing_file_size', 16, 4],
  ['cluster_bits', 20, 4],
  ['size', 24, 8],
  ['crypt_method', 32, 4],
  ['l1_size', 36, 4],
  ['l1_table_offset', 40, 8],
  ['refcount_table_offset', 48, 8],
  ['refcount_table_clusters', 56, 4],
  ['nb_snapshots', 60, 4],
  ['snapshots_offset', 64, 8],
  ['incompatible_features', 72, 8],
  ['compatible_features', 80, 8],
  ['autoclear_features', 88, 8],
  ['refcount_order', 96, 4],
  ['header_length', 100, 4],
  ['compression_type', 104, 1],
];
const SNAPSHOT_FIELDS = [
  ['l1_table_offset', 0, 8],
  ['l1_size', 8, 4],
  ['id_str_size', 12, 2],
  ['name_size', 14, 2],
  ['date_sec', 16, 4],
  ['date_nsec', 20, 4],
  ['vm_clock_nsec', 24, 8],
  ['vm_state_size', 32, 4],
  ['extra_data_size', 36, 4],
  ['vm_state_size_large', 40, 8],
  ['disk_size', 48, 8],
  ['icount', 56, 8],
];
const LUKS_FIELDS = [
  ['version', 6, 2],
  ['cipher-name', 8, 4],
  ['cipher-mode', 40, 4],
  ['hash-spec', 72, 4],
  ['payload-offset', 104, 4],
  ['key-bytes', 108, 4],
  ['mk-digest', 112, 4],
  ['mk-digest-iter', 164, 4],
  ['slot active', 208, 4],
  ['slot iterations', 212, 4],
  ['slot key-material-offset', 248, 4],
  ['slot stripes', 252, 4],
  ['second slot active', 256, 4],
];
const LUKS_EXTENSION = 0x0537be77;
const BITMAPS_EXTENSION = 0x23852875;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
/** Of each table: the tables of a small image have thousands of empty entries at the end. */
const MAX_ENTRIES = 2048;

/**
 * `fields`, `l1Entries`, … are lists of [name, position, bytes]; `compressed`, `luks` and `names` of [position, length];
 * `tables`, those of snapshots and bitmaps, of [name, position of the offset, position of the size].
 * What lies in `idle` has no part in which bytes a state has.
 */
export function findStructure(bytes) {
  const found = {
    ...{ fields: [], extensions: [], l1Entries: [], l2Entries: [], snapshots: [], luksFields: [], bitmaps: [] },
    ...{ compressed: [], luks: [], names: [], idle: [], tables: [], clusterBytes: 512 },
  };
  if (bytes.length < 72 || bytes.readUInt32BE(0) !== 0x514649fb) return found;
  const isV3 = bytes.readUInt32BE(4) >= 3;
  found.fields = HEADER_FIELDS.filter(([, position]) => isV3 || position < 72);
  found.clusterBytes = 2 ** bytes.readUInt32BE(20);
  found.isExtended = isV3 && (bytes.readUInt8(79) & 16) !== 0;
  findExtensions(bytes, isV3 ? bytes.readUInt32BE(100) : 72, found);
  const nameBytes = bytes.readUInt32BE(16);
  if (nameBytes > 0) found.names.push([u64(bytes, 8), nameBytes]);
  findL1(bytes, u64(bytes, 40), bytes.readUInt32BE(36), found);
  findSnapshots(bytes, found);
  findRefcounts(bytes, found);
  return found;
}

function findExtensions(bytes, start, found) {
  for (let at = start; at + 8 <= found.clusterBytes; ) {
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    found.extensions.push(['extension type', at, 4], ['extension length', at + 4, 4]);
    if (type === 0) return;
    for (let within = 0; within + 8 <= Math.min(length, 96); within += 8) {
      found.extensions.push([`extension data ${within}`, at + 8 + within, 8]);
    }
    if (type === LUKS_EXTENSION) {
      const header = u64(bytes, at + 8);
      found.luks.push([header, Math.min(u64(bytes, at + 16), bytes.length - header)]);
      found.luksFields = LUKS_FIELDS.map(([name, position, width]) => [`LUKS ${name}`, header + position, width]);
    }
    if (type === BITMAPS_EXTENSION) findBitmaps(bytes, u64(bytes, at + 24), bytes.readUInt32BE(at + 8), found);
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

function findBitmaps(bytes, directory, count, found) {
  let entry = directory;
  for (let number = 0; number < count && entry + 24 <= bytes.length; number++) {
    for (const [name, at, width] of [
      ['table offset', 0, 8],
      ['table size', 8, 4],
      ['flags', 12, 4],
      ['type and name size', 16, 4],
      ['extra data size', 20, 4],
    ]) {
      found.bitmaps.push([`bitmap ${number} ${name}`, entry + at, width]);
      found.idle.push([entry + at, width]);
    }
    const table = u64(bytes, entry);
    found.tables.push([`bitmap ${number}`, entry, entry + 8]);
    for (let index = 0; index < bytes.readUInt32BE(entry + 8); index++) {
      found.bitmaps.push([`bitmap ${number} table entry ${index}`, table + index * 8, 8]);
      found.idle.push([table + index * 8, 8]);
    }
    entry += Math.ceil((24 + bytes.readUInt32BE(entry + 20) + bytes.readUInt16BE(entry + 18)) / 8) * 8;
  }
}

function findL1(bytes, offset, size, found) {
  for (let index = 0; index < Math.min(size, MAX_ENTRIES); index++) {
    const at = offset + index * 8;
    if (at + 8 > bytes.length) return;
    found.l1Entries.push([`L1 entry ${index} at ${at}`, at, 8]);
    const table = Number(bytes.readBigUInt64BE(at) & OFFSET_MASK);
    if (table !== 0 && !found.seen?.has(table)) findL2(bytes, table, found);
  }
}

function findL2(bytes, table, found) {
  found.seen ??= new Set();
  found.seen.add(table);
  const step = found.isExtended ? 16 : 8;
  const end = Math.min(table + found.clusterBytes, bytes.length - step, table + MAX_ENTRIES * step);
  let emptyCount = 0;
  for (let at = table; at < end; at += step) {
    const entry = bytes.readBigUInt64BE(at);
    if (entry === 0n && emptyCount++ > 4) continue;
    found.l2Entries.push([`L2 entry at ${at}`, at, 8]);
    if (found.isExtended) found.l2Entries.push([`L2 bitmap at ${at + 8}`, at + 8, 8]);
    if (((entry >> 62n) & 1n) === 1n) {
      const bits = 62n - (BigInt(Math.log2(found.clusterBytes)) - 8n);
      const start = Number(entry & ((1n << bits) - 1n));
      found.compressed.push([start, Math.min(512, Math.max(0, bytes.length - start))]);
    }
  }
}

function findSnapshots(bytes, found) {
  let at = u64(bytes, 64);
  for (let index = 0; index < bytes.readUInt32BE(60); index++) {
    const extra = bytes.readUInt32BE(at + 36);
    for (const [name, position, width] of SNAPSHOT_FIELDS) {
      if (position + width <= 40 + extra) found.snapshots.push([`snapshot ${index} ${name}`, at + position, width]);
    }
    found.tables.push([`snapshot ${index}`, at, at + 8]);
    // The date and the clock.
    found.idle.push([at + 16, 16]);
    found.names.push([at + 40 + extra, bytes.readUInt16BE(at + 12) + bytes.readUInt16BE(at + 14)]);
    findL1(bytes, u64(bytes, at), bytes.readUInt32BE(at + 8), found);
    at += Math.ceil((40 + extra + bytes.readUInt16BE(at + 12) + bytes.readUInt16BE(at + 14)) / 8) * 8;
  }
}

function findRefcounts(bytes, found) {
  const table = u64(bytes, 48);
  const length = bytes.readUInt32BE(56) * found.clusterBytes;
  if (table === 0 || table + length > bytes.length) return;
  found.idle.push([table, Math.min(length, 64)]);
  for (let at = table; at < table + length; at += 8) {
    const block = Number(bytes.readBigUInt64BE(at));
    if (block !== 0 && block + 64 <= bytes.length) found.idle.push([block, 64]);
  }
}

function u64(bytes, at) {
  return Number(bytes.readBigUInt64BE(at));
}
