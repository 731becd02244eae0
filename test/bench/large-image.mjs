/**
 * Writes a large image in seconds: its tables are whole, and its data clusters are holes of the file. A week or a month of snapshots
 * of a disk that is full, of which a part is rewritten every day.
 */

import fs from 'node:fs';

const CLUSTER_BYTES = 65536;
const ENTRIES_PER_TABLE = CLUSTER_BYTES / 8;
const REFCOUNTS_PER_BLOCK = CLUSTER_BYTES / 2;
const COPIED = 0x8000_0000;
/** Of 72 bytes version 2, of 104 version 3, and the end mark of its extensions. */
const HEADER_BYTES = 112;
/** What is rewritten together: 1 MiB. */
const RUN_CLUSTERS = 16;
const DAY_SECONDS = 86400;
const FIRST_DAY = Date.UTC(2026, 0, 1, 2) / 1000;

/**
 * @param path of the new file
 * @param sizeBytes of the disk: a multiple of 512 MiB, what one L2 table maps
 * @param snapshotCount one a day
 * @param changedTables how many L2 tables are changed each day, in every second MiB of what they map
 */
export function writeLargeImage(path, { sizeBytes, snapshotCount, changedTables }) {
  const image = planImage(sizeBytes / CLUSTER_BYTES / ENTRIES_PER_TABLE, snapshotCount, changedTables);
  const fd = fs.openSync(path, 'wx');
  try {
    writeTables(fd, image);
    fs.writeSync(fd, header(image, sizeBytes), 0, HEADER_BYTES, 0);
    fs.ftruncateSync(fd, image.clusterCount * CLUSTER_BYTES);
  } finally {
    fs.closeSync(fd);
  }
}

/** Which cluster has what. A table is { cluster, entries: clusters of the guest, states: how many have it }. */
function planImage(tableCount, snapshotCount, changedTables) {
  const tables = [];
  let dataCluster = 0;
  const addTable = (entries) => {
    tables.push({ entries, states: 0, cluster: 0 });
    return tables.length - 1;
  };
  const fresh = () => Uint32Array.from({ length: ENTRIES_PER_TABLE }, () => dataCluster++);
  let active = Array.from({ length: tableCount }, () => addTable(fresh()));
  const states = [];
  for (let day = 0; day < snapshotCount; day++) {
    states.push(active);
    active = [...active];
    for (let change = 0; change < changedTables; change++) {
      // Spread over the disk, and each day at other places.
      const index = (day * 7 + change * Math.floor(tableCount / changedTables)) % tableCount;
      const entries = Uint32Array.from(tables[active[index]].entries, (cluster, entry) =>
        Math.floor(entry / RUN_CLUSTERS) % 2 === 0 ? cluster : dataCluster++,
      );
      active[index] = addTable(entries);
    }
  }
  states.push(active);
  return placeAll(tables, states, dataCluster, tableCount);
}

/** In this order: header, refcount table, refcount blocks, snapshot table, L1 tables, L2 tables, data. */
function placeAll(tables, states, dataCount, tableCount) {
  for (const state of states) for (const table of state) tables[table].states += 1;
  const l1Clusters = Math.ceil((tableCount * 8) / CLUSTER_BYTES);
  const snapshotTableClusters = Math.ceil(((states.length - 1) * 96) / CLUSTER_BYTES);
  const others = 1 + snapshotTableClusters + states.length * l1Clusters + tables.length + dataCount;
  let blockCount = 0;
  let tableClusters = 0;
  // The refcounts count themselves too.
  while (blockCount * REFCOUNTS_PER_BLOCK < others + blockCount + tableClusters) {
    blockCount += 1;
    tableClusters = Math.ceil((blockCount * 8) / CLUSTER_BYTES);
  }
  let next = 1;
  const take = (count) => {
    const first = next;
    next += count;
    return first;
  };
  const refcountTable = take(tableClusters);
  const refcountBlocks = take(blockCount);
  const snapshotTable = take(snapshotTableClusters);
  const l1Tables = states.map(() => take(l1Clusters));
  for (const table of tables) table.cluster = take(1);
  const data = take(dataCount);
  return {
    ...{
      tables,
      states,
      tableCount,
      refcountTable,
      tableClusters,
      refcountBlocks,
      blockCount,
      snapshotTable,
      l1Tables,
    },
    ...{ data, clusterCount: next },
  };
}

function writeTables(fd, image) {
  const { tables, states, data, clusterCount, refcountTable, refcountBlocks, blockCount } = image;
  const refcounts = new Uint16Array(blockCount * REFCOUNTS_PER_BLOCK);
  refcounts.fill(1, 0, data);
  for (const { cluster, entries, states: count } of tables) {
    refcounts[cluster] = count;
    for (const entry of entries) refcounts[data + entry] += count;
  }
  const block = Buffer.alloc(CLUSTER_BYTES);
  for (const { cluster, entries } of tables) {
    for (const [index, entry] of entries.entries()) putEntry(block, index, data + entry, refcounts[data + entry]);
    fs.writeSync(fd, block, 0, CLUSTER_BYTES, cluster * CLUSTER_BYTES);
  }
  for (const [index, state] of states.entries()) {
    const l1 = Buffer.alloc(state.length * 8);
    // QEMU sets the flag in the active table only.
    const isActive = index === states.length - 1;
    for (const [entry, table] of state.entries()) {
      putEntry(l1, entry, tables[table].cluster, isActive ? tables[table].states : 2);
    }
    fs.writeSync(fd, l1, 0, l1.length, image.l1Tables[index] * CLUSTER_BYTES);
  }
  const bytes = Buffer.from(refcounts.buffer).swap16();
  fs.writeSync(fd, bytes, 0, bytes.length, refcountBlocks * CLUSTER_BYTES);
  const table = Buffer.alloc(blockCount * 8);
  for (let index = 0; index < blockCount; index++) putEntry(table, index, refcountBlocks + index, 2);
  fs.writeSync(fd, table, 0, table.length, refcountTable * CLUSTER_BYTES);
  const snapshots = Buffer.concat(states.slice(0, -1).map((state, index) => snapshotEntry(image, state, index)));
  fs.writeSync(fd, snapshots, 0, snapshots.length, image.snapshotTable * CLUSTER_BYTES);
  if (clusterCount > refcounts.length) throw new Error('there are more clusters than refcounts');
}

function putEntry(table, index, cluster, refcount) {
  const offset = cluster * CLUSTER_BYTES;
  table.writeUInt32BE((Math.floor(offset / 2 ** 32) + (refcount === 1 ? COPIED : 0)) >>> 0, index * 8);
  table.writeUInt32BE(offset % 2 ** 32, index * 8 + 4);
}

/** Of version 3: 40 bytes, 16 of extra data, the id and the name. */
function snapshotEntry({ l1Tables, tableCount }, _state, index) {
  const [id, name] = [String(index + 1), `day${index + 1}`];
  const entry = Buffer.alloc(Math.ceil((40 + 16 + id.length + name.length) / 8) * 8);
  entry.writeBigUInt64BE(BigInt(l1Tables[index] * CLUSTER_BYTES), 0);
  entry.writeUInt32BE(tableCount, 8);
  entry.writeUInt16BE(id.length, 12);
  entry.writeUInt16BE(name.length, 14);
  entry.writeUInt32BE(FIRST_DAY + index * DAY_SECONDS, 16);
  entry.writeUInt32BE(16, 36);
  entry.writeBigUInt64BE(BigInt(tableCount * ENTRIES_PER_TABLE * CLUSTER_BYTES), 48);
  entry.write(id + name, 56, 'latin1');
  return entry;
}

function header({ l1Tables, refcountTable, tableClusters, snapshotTable, states, tableCount }, sizeBytes) {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write('QFI\xfb', 0, 'latin1');
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 24);
  bytes.writeUInt32BE(tableCount, 36);
  bytes.writeBigUInt64BE(BigInt(l1Tables.at(-1) * CLUSTER_BYTES), 40);
  bytes.writeBigUInt64BE(BigInt(refcountTable * CLUSTER_BYTES), 48);
  bytes.writeUInt32BE(tableClusters, 56);
  bytes.writeUInt32BE(states.length - 1, 60);
  bytes.writeBigUInt64BE(BigInt(states.length > 1 ? snapshotTable * CLUSTER_BYTES : 0), 64);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(104, 100);
  return bytes;
}
