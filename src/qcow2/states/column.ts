/** Which states share which L2 table of a column. */

export const NO_TABLE = -1;

/** Filled in by `fillColumn`; only the first `tableCount` values of those about tables mean anything. */
export interface Column {
  tableCount: number;
  readonly tableOffsets: Float64Array;
  /** How many states have the table, and how many of them are chosen. */
  readonly stateCounts: Uint32Array;
  readonly chosenCounts: Uint32Array;
  /** One of its states: the only one, if there is only one. */
  readonly anyState: Uint32Array;
  /** For each state: its table, or NO_TABLE. */
  readonly tableOf: Int32Array;
}

/** So many tables are searched one by one; more than that in a map. */
const FEW_TABLES = 16;

export function createColumn(stateCount: number): Column {
  return {
    tableCount: 0,
    tableOffsets: new Float64Array(stateCount),
    stateCounts: new Uint32Array(stateCount),
    chosenCounts: new Uint32Array(stateCount),
    anyState: new Uint32Array(stateCount),
    tableOf: new Int32Array(stateCount),
  };
}

/** `offsets`: of the table of each state, 0 for none. */
export function fillColumn(column: Column, offsets: Float64Array, isChosen: Uint8Array): void {
  const { tableOffsets, stateCounts, chosenCounts, anyState, tableOf } = column;
  let places: Map<number, number> | undefined;
  column.tableCount = 0;
  for (let state = 0; state < offsets.length; state++) {
    const offset = offsets[state] ?? 0;
    if (offset === 0) {
      tableOf[state] = NO_TABLE;
      continue;
    }
    let table = findTable(column, offset, offsets[state - 1] === offset ? tableOf[state - 1] : undefined, places);
    if (table === NO_TABLE) {
      table = column.tableCount++;
      if (table >= FEW_TABLES) {
        places ??= new Map();
        places.set(offset, table);
      }
      tableOffsets[table] = offset;
      stateCounts[table] = 0;
      chosenCounts[table] = 0;
    }
    tableOf[state] = table;
    stateCounts[table] = (stateCounts[table] ?? 0) + 1;
    chosenCounts[table] = (chosenCounts[table] ?? 0) + (isChosen[state] ?? 0);
    anyState[table] = state;
  }
}

function findTable(
  { tableCount, tableOffsets }: Column,
  offset: number,
  before: number | undefined,
  places: Map<number, number> | undefined,
): number {
  if (before !== undefined) return before;
  for (let table = 0; table < tableCount && table < FEW_TABLES; table++) {
    if (tableOffsets[table] === offset) return table;
  }
  return places?.get(offset) ?? NO_TABLE;
}
