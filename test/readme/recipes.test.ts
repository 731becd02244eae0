/** Recipes of README.md on other images than the demo's: its own lines, with names replaced. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { copyAtOneMoment, makeFileSystem } from '../mounted/dirty-disk.ts';
import { makePartitionedImage, replaceDisk } from '../mounted/partitioned-image.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { loopDevicesBelow, mountsBelow, processesNaming } from '../support/leftovers.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { MIB, runSfdisk } from '../volumes/partitioned-disk.ts';
import {
  blockBehind,
  fencedBlocks,
  linkLauncher,
  OTHER_IMAGE,
  README,
  replaceNames,
  runCommands,
  writeSudo,
} from './readme.ts';

const EXT4 = ['mkfs.ext4', '-q', '-F'] as const;
const SHOP_MOUNT = 'sudo mount -o ro,loop';
const POSTGRESQL_FOLDER = '/usr/lib/postgresql';

/** Runs commands in a folder where `night`, `before` and `after` are for mounting; nothing stays mounted in it. */
async function withReader(body: (place: string, run: (commands: string) => string) => void | Promise<void>) {
  await withTemporaryFolder(async (place) => {
    const bin = path.join(place, 'bin');
    for (const name of ['bin', 'night', 'scratch']) fs.mkdirSync(path.join(place, name));
    writeSudo(bin);
    linkLauncher(bin);
    const run = (commands: string) => {
      const { status, stdout, stderr } = runCommands(commands, { cwd: place, bin });
      expect(status, `${commands}\n${stdout}${stderr}`).toBe(0);
      return stdout;
    };
    try {
      await body(place, run);
    } finally {
      // A server that a failed recipe has left.
      for (const line of processesNaming(place)) tryCommand('kill', ['-QUIT', line.split(':', 1)[0] ?? '']);
      const devices = loopDevicesBelow(place);
      for (const mounted of mountsBelow(place)) tryCommand('umount', ['--lazy', '--', mounted]);
      for (const device of devices) tryCommand('losetup', ['-d', device]);
    }
  });
}

/** An image with the snapshot `monday` of a disk whose one partition is this. */
function makeImage(image: string, partition: string): void {
  const raw = `${image}.raw`;
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, fs.statSync(partition).size + 2 * MIB);
  runSfdisk(raw, 'label: gpt\nstart=1MiB\n');
  runCommand('dd', [`if=${partition}`, `of=${raw}`, 'bs=1M', 'seek=1', 'conv=notrunc,sparse', 'status=none']);
  replaceDisk(image, raw);
  createSnapshot(image, 'monday');
  fs.rmSync(raw);
}

test('each block for another image is run here', () => {
  const blocks = fencedBlocks(README).filter(({ language }) => language === OTHER_IMAGE);
  expect(blocks.map(({ text }) => text)).toEqual([blockBehind('**PostgreSQL**').text]);
});

test('a file from yesterday: out of a partition, and out of a logical volume', () =>
  withReader(async (place, run) => {
    const { path: image, states } = await makePartitionedImage(place);
    const monday = states.find(({ folder }) => folder === 'snapshots/monday');
    await withMount(image, (mountpoint) => {
      for (const [index, volume] of ['p1', 'vg-root'].entries()) {
        const copy = `copy${index}`;
        run(
          replaceNames(blockBehind('**A file from yesterday**').text, {
            'shop/snapshots/saturday': `${mountpoint}/snapshots/monday`,
            'p1.raw': `${volume}.raw`,
            'notes-of-saturday.txt': copy,
            'night/notes.txt': "'night/file 0'",
          }),
        );
        runCommand('cmp', [path.join(place, copy), path.join(monday?.source ?? '', 'file 0')]);
      }
    });
  }));

test('what changed between two snapshots of XFS, with the options that it wants', () =>
  withReader(async (place, run) => {
    const { path: image, states } = await makePartitionedImage(place);
    const xfsOptions = /XFS does not allow unless it\s+is mounted with `([a-z,]+)`/.exec(README)?.[1] ?? '';
    await withMount(image, (mountpoint) => {
      const names = {
        'shop/snapshots/thursday/volumes/p1.raw': `${mountpoint}/snapshots/monday/volumes/p2.raw`,
        'shop/snapshots/friday/volumes/p1.raw': `${mountpoint}/current/volumes/p2.raw`,
      };
      const commands = replaceNames(blockBehind('**What changed between two snapshots?**').text, names);
      const shown = run(replaceNames(commands, { [SHOP_MOUNT]: `sudo mount -o ${xfsOptions}` }));
      const [monday = '', current = ''] = states.map(({ source }) => source);
      const wanted = tryCommand('diff', ['-r', monday, current]).stdout;
      const lines = wanted.trimEnd().replaceAll(monday, 'before').replaceAll(current, 'after').split('\n');
      expect(lines.length).toBeGreaterThan(30);
      expect(shown.split('\n')).toEqual([...lines, 'that is what changed', '']);
      // It is needed.
      fs.rmSync(path.join(place, 'before'), { recursive: true });
      fs.rmSync(path.join(place, 'after'), { recursive: true });
      const without = runCommands(commands, { cwd: place, bin: path.join(place, 'bin') });
      expect([without.status, without.stdout]).toEqual([32, '']);
      runCommand('umount', [path.join(place, 'before')]);
    });
  }));

/** The disk of a machine with a server that has rows in its log only. Returns how many rows there are. */
function writePostgresqlDisk(place: string, version: string, image: string): number {
  const [raw, copy, night] = ['raw', 'copy', 'night'].map((name) => path.join(place, name)) as [string, string, string];
  const data = `${night}/var/lib/postgresql/${version}/main`;
  const asServer = (...command: readonly string[]) => runCommand('runuser', ['-u', 'postgres', '--', ...command]);
  const program = (name: string) => `${POSTGRESQL_FOLDER}/${version}/bin/${name}`;
  const sql = (text: string) => asServer('psql', '-qAt', '-h', '/tmp', '-p', PORT, '-c', text).trim();
  makeFileSystem(raw, { mkfs: EXT4, sizeBytes: 200 * MIB });
  runCommand('mount', ['-o', 'loop', raw, night]);
  try {
    fs.mkdirSync(data, { recursive: true });
    runCommand('chown', ['postgres:', data]);
    asServer(program('initdb'), '--auth=trust', '--wal-segsize=1', '--no-sync', '-D', data);
    const options = `-c listen_addresses= -c autovacuum=off -k /tmp -p ${PORT}`;
    asServer(program('pg_ctl'), 'start', '-w', '-D', data, '-l', `${data}/log`, '-o', options);
    try {
      sql('CREATE TABLE orders (id int PRIMARY KEY, article text)');
      sql('CHECKPOINT');
      runCommand('sync', ['-f', night]);
      sql("INSERT INTO orders SELECT n, 'article ' || n FROM generate_series(1, 5000) n");
      const count = Number(sql('SELECT count(*) FROM orders'));
      copyAtOneMoment(raw, copy);
      makeImage(image, copy);
      return count;
    } finally {
      asServer(program('pg_ctl'), 'stop', '-m', 'immediate', '-D', data);
    }
  } finally {
    runCommand('umount', [night]);
  }
}

const PORT = '5498';

test('PostgreSQL of a running machine: starts on a scratch view, replays its log, and all is there', () =>
  withReader(async (place, run) => {
    const [version = ''] = fs.readdirSync(POSTGRESQL_FOLDER);
    const image = path.join(place, 'vm.qcow2');
    const count = writePostgresqlDisk(place, version, image);
    expect(count).toBe(5000);
    const before = sha256OfFile(image);
    run(
      replaceNames(blockBehind('**PostgreSQL**').text, {
        'postgresql/15': `postgresql/${version}`,
        '-p 5499': `-p ${PORT}`,
        'sudo umount night': 'cp $data/start.log . && sudo umount night',
      }),
    );
    expect(sha256OfFile(image)).toBe(before);
    expect(fs.readFileSync(path.join(place, 'start.log'), 'utf8')).toContain('redo done');
    const rows = /^COPY public\.orders [^\n]*\n([\s\S]*?)^\\\.$/m.exec(
      fs.readFileSync(path.join(place, 'monday.sql'), 'utf8'),
    )?.[1];
    expect(rows?.trimEnd().split('\n')).toHaveLength(count);
  }));
