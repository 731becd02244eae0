/**
 * `qcow2fs demo`: the main job, done on the image that ships with the package with the commands that a user would type.
 * Everything that is read is checked against what QEMU reads in the same image.
 */
import { accessSync, constants, copyFileSync, mkdirSync, statSync } from 'node:fs';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { type DemoShell, inDemoShell } from './demo-shell.ts';
import { type Piece, packageFolder, readWeek, type Week, type WeekState, weekImagePath } from './week.ts';

const IMAGE = 'week.qcow2';
const MOUNT = 'mnt';

/** Runs all steps; throws a `Qcow2fsError` at the first one that fails or reads other bytes than QEMU. */
export async function runDemo(): Promise<void> {
  checkMachine();
  const week = readWeek();
  await inDemoShell(`${packageFolder}bin`, MOUNT, async (shell) => {
    copyFileSync(weekImagePath, `${shell.folder}/${IMAGE}`);
    mkdirSync(`${shell.folder}/${MOUNT}`);
    shell.say(`${IMAGE} is the disk of a small shop, with a snapshot of every night of one week.`);
    shell.say('On Friday its database was damaged, and nobody noticed until after Sunday.');
    for (const [index, { title, run }] of STEPS.entries()) {
      shell.say(`\n${index + 1}. ${title}`);
      await run(shell, week);
    }
    shell.say('\nDone: every byte is what QEMU reads in this image.');
  });
}

interface Step {
  readonly title: string;
  readonly run: (shell: DemoShell, week: Week) => Promise<void>;
}

const STEPS: readonly Step[] = [
  { title: 'Mount the image.', run: (shell) => shell.runToTheEnd(`qcow2fs mount ${IMAGE} ${MOUNT}`) },
  { title: 'Every state is a raw file now; the folder of a snapshot has its date.', run: listTree },
  { title: "Find the day: one page of the database holds Monday's orders, which nobody changes.", run: compareDays },
  { title: 'Every partition is a raw file too, named as in the machine.', run: listVolumes },
  { title: "Take Thursday's database out of its partition.", run: extractDatabase },
  { title: 'Copy a whole disk out. What is empty in the guest takes no space in the copy.', run: copySparsely },
  { title: 'Check every state: size and sha256 must be what QEMU reads.', run: checkStates },
  { title: 'The image is as it was.', run: checkImage },
  { title: 'Unmount.', run: (shell) => shell.runToTheEnd(`qcow2fs umount ${MOUNT}`) },
];

async function listTree(shell: DemoShell, week: Week): Promise<void> {
  await shell.run(`ls ${MOUNT} ${MOUNT}/current`);
  const listing = await shell.run(`ls -l --time-style=long-iso ${MOUNT}/snapshots`);
  for (const { name, date } of week.states) {
    if (date !== null)
      expect(listing.includes(`${date.slice(0, 16).replace('T', ' ')} ${name}\n`), `${name} is listed`);
  }
}

async function compareDays(shell: DemoShell, week: Week): Promise<void> {
  const { offsetBytes, lengthBytes } = week.damagedPage;
  const compare = (one: string, other: string): string =>
    `cmp --ignore-initial=${offsetBytes} --bytes=${lengthBytes} ${diskPath(one)} ${diskPath(other)}`;
  await shell.run(compare('wednesday', 'thursday'));
  shell.say('   (no output: no difference)');
  await shell.run(compare('thursday', 'friday'), { expectedStatus: 1 });
  shell.say("   On Friday, somebody's log lies there:");
  await shell.run(`${cutOut(diskPath('friday'), { offsetBytes, lengthBytes })} | head -n 2`);
}

async function listVolumes(shell: DemoShell, week: Week): Promise<void> {
  await shell.run(`ls ${MOUNT}/snapshots/thursday/volumes ${MOUNT}/snapshots/thursday/volumes/by-label`);
  await shell.run(`qcow2fs list --volumes --state thursday ${IMAGE}`);
  const { offsetBytes, lengthBytes } = week.partition;
  await shell.run(
    `cmp --ignore-initial=${offsetBytes}:0 --bytes=${lengthBytes} ${diskPath('friday')} ${partitionPath('friday')}`,
  );
  const size = await shell.run(`stat --format=%s ${partitionPath('friday')}`, { quiet: true });
  expect(size.trim() === String(lengthBytes), 'the partition has its own size');
}

async function extractDatabase(shell: DemoShell, week: Week): Promise<void> {
  const hasDebugfs = await has(shell, 'debugfs');
  for (const name of ['thursday', 'friday']) {
    const { database } = stateOf(week, name);
    const inPartition = { ...database, offsetBytes: database.offsetBytes - week.partition.offsetBytes };
    const commandLine = hasDebugfs
      ? `debugfs -R 'dump /shop.db ${name}.db' ${partitionPath(name)}`
      : `${cutOut(partitionPath(name), inPartition)} of=${name}.db`;
    await shell.run(commandLine);
    const sum = await shell.run(`sha256sum ${name}.db`);
    expect(sum.startsWith(database.sha256), `${name}.db has the sha256 ${database.sha256}`);
  }
  if (!(await has(shell, 'sqlite3'))) {
    shell.say('   (sqlite3 is not installed, so it is not asked what it says about the two; the sums are right.)');
    return;
  }
  const good = await shell.run("sqlite3 thursday.db 'PRAGMA integrity_check'", { expectedStatus: 'any' });
  expect(good.trim() === 'ok', "SQLite finds Thursday's database good");
  const damaged = await shell.run("sqlite3 friday.db 'PRAGMA integrity_check'", { expectedStatus: 'any' });
  expect(damaged.trim() !== 'ok', "SQLite finds Friday's database damaged");
}

async function copySparsely(shell: DemoShell, week: Week): Promise<void> {
  await shell.run(`cp --sparse=auto ${diskPath('sunday')} sunday.raw`);
  await shell.run(`cmp sunday.raw ${diskPath('sunday')}`);
  await shell.run(`stat --format='%n: %s bytes, %b blocks of %B' sunday.raw`);
  const copy = statSync(`${shell.folder}/sunday.raw`);
  expect(copy.blocks * 512 < stateOf(week, 'sunday').virtualSizeBytes / 4, 'the copy is sparse');
}

async function checkStates(shell: DemoShell, week: Week): Promise<void> {
  const sums = await shell.run(`sha256sum ${MOUNT}/current/disk.raw ${MOUNT}/snapshots/*/disk.raw`);
  const sizes = await shell.run(`stat --format='%s  %n' ${MOUNT}/current/disk.raw ${MOUNT}/snapshots/*/disk.raw`);
  const sort = (lines: string[]): string => lines.sort().join('\n');
  const lines = (text: string): string[] => text.trimEnd().split('\n');
  const wanted = (what: (state: WeekState) => string | number): string[] =>
    week.states.map((state) => `${what(state)}  ${diskPath(state.name)}`);
  expect(sort(lines(sums)) === sort(wanted(({ sha256 }) => sha256)), 'the sha256 of every state is that of QEMU');
  expect(
    sort(lines(sizes)) === sort(wanted(({ virtualSizeBytes }) => virtualSizeBytes)),
    'the size of every state is that of QEMU',
  );
  shell.say(`   All ${week.states.length} sums and sizes are right.`);
}

async function checkImage(shell: DemoShell, week: Week): Promise<void> {
  const sum = await shell.run(`sha256sum ${IMAGE}`);
  expect(sum.startsWith(week.image.sha256), `${IMAGE} has the sha256 ${week.image.sha256}`);
}

/** Says what is missing before anything is done, instead of letting the first step fail. */
function checkMachine(): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (cause) {
    const remedy = 'load the kernel module (modprobe fuse); in a container, pass --device /dev/fuse';
    throw new Qcow2fsError('MOUNT', `demo: cannot use /dev/fuse: ${messageOf(cause)}: ${remedy}`, { cause });
  }
}

function diskPath(name: string): string {
  return name === 'current' ? `${MOUNT}/current/disk.raw` : `${MOUNT}/snapshots/${name}/disk.raw`;
}

function partitionPath(name: string): string {
  return `${MOUNT}/snapshots/${name}/volumes/p1.raw`;
}

async function has(shell: DemoShell, tool: string): Promise<boolean> {
  return (await shell.run(`command -v ${tool}`, { expectedStatus: 'any', quiet: true })) !== '';
}

function cutOut(path: string, { offsetBytes, lengthBytes }: Piece): string {
  return `dd if=${path} skip=${offsetBytes} count=${lengthBytes} iflag=skip_bytes,count_bytes bs=4096 status=none`;
}

function stateOf(week: Week, name: string): WeekState {
  const state = week.states.find((candidate) => candidate.name === name);
  if (!state) throw new Qcow2fsError('NOT_FOUND', `demo: week.json has no state ${name}`);
  return state;
}

function expect(isTrue: boolean, statement: string): void {
  if (!isTrue) throw new Qcow2fsError('INTERNAL', `demo: this should be true, and is not: ${statement}`);
}
