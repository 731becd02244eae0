/** `qcow2fs map`: the extents of a state, in the shape of `qemu-img map`. */

import type { Command } from 'commander';
import { warn } from '../common/logging.ts';
import { writerOf } from '../daemon/writer-of.ts';
import type { MapEntry, MapList } from '../open-image/map-list.ts';
import { mapState } from '../open-image/map-state.ts';
import { append } from './chain-options.ts';
import { formatRows, toPrintable } from './format.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { writePieces } from './write-pieces.ts';

interface MapFlags extends ChainFlags {
  readonly json?: boolean;
}

const HEADINGS = ['START', 'LENGTH', 'KIND', 'DEPTH', 'OFFSET'];
const NOTHING = '-';
const INCOMPLETE = 1;

/** Adds the command; `exit` is called with the exit code if something is damaged. */
export function addMapCommand(program: Command, exit: (code: number) => void): void {
  program
    .command('map')
    .description(
      'show what is stored of a state and where, as qemu-img map does for the current one; needs no passphrase',
    )
    .argument('<IMAGE>', 'a qcow2 image')
    .argument('[STATE]', 'current, id:N, name:X or a snapshot name', 'current')
    .option('--json', 'print what qemu-img map --output=json prints')
    .option('--allow-path <DIR>', 'let backing files be opened in DIR too, besides the folder of IMAGE', append)
    .option('--backing <FILE>', 'take FILE as the backing file, whatever IMAGE says')
    .option('--no-backing', 'open no backing file: what would come from it is neither data nor zeros')
    .action(async (image: string, state: string, flags: MapFlags) => {
      if (!(await mapCommand(image, state, flags))) exit(INCOMPLETE);
    });
}

/** False if something is damaged. */
async function mapCommand(image: string, state: string, { json, ...flags }: MapFlags): Promise<boolean> {
  const { entries, isComplete, problems } = mapState(image, state, { chain: toChainOptions(flags), writerOf });
  await writePieces(process.stdout, json ? toJson(entries) : toLines(entries));
  for (const problem of problems) warn(`warning: ${toPrintable(problem)}`);
  return isComplete;
}

/** To the byte what QEMU 7.2 prints (dump_map_entry, qemu-img.c). */
export function* toJson(entries: MapList): Generator<string> {
  let separator = '[';
  for (const { start, length, depth, present, zero, data, offset } of entries) {
    const place = offset < 0 ? '' : `, "offset": ${offset}`;
    yield `${separator}{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
      `"zero": ${zero}, "data": ${data}${place}}`;
    separator = ',\n';
  }
  yield separator === '[' ? '[]\n' : ']\n';
}

function toLines(entries: MapList): Iterable<string> {
  return formatRows({
    *[Symbol.iterator]() {
      yield HEADINGS;
      for (const entry of entries) {
        const { start, length, depth, offset } = entry;
        yield [String(start), String(length), kindOf(entry), String(depth), offset < 0 ? NOTHING : String(offset)];
      }
    },
  });
}

function kindOf({ data, zero, present, offset }: Readonly<MapEntry>): string {
  if (data) return zero ? 'data, in a hole of the file' : offset < 0 ? 'data, not as it is' : 'data';
  if (zero) return present ? 'zeros' : 'nothing';
  return 'unknown';
}
