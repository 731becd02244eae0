/** The commands that need no mount, run as a user runs them. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { runMeasuring } from '../support/run-measuring.mjs';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/qcow2fs');

const qcow2fs = (...args: string[]) => tryCommand(LAUNCHER, args);
const qemuImg = (...args: string[]) => runCommand('qemu-img', args);

const CREATE_LOCKED = ['create', '-q', '--object', 'secret,id=s,data=x', '-f', 'qcow2'];

/** An image with snapshots of two sizes, one with a name that would disturb a terminal. */
function createImage(folder: string): string {
  const image = `${folder}/disk.qcow2`;
  qemuImg('create', '-q', '-f', 'qcow2', image, '64M');
  qemuImg('snapshot', '-c', 'monday', image);
  qemuImg('resize', '-q', image, '100M');
  qemuImg('snapshot', '-c', 'bad\nname \u001b[31m', image);
  return image;
}

describe('list', () => {
  test('--json says what qemu-img says, and each size of its own', () =>
    withTemporaryFolder((folder) => {
      const image = createImage(folder);
      const { status, stdout, stderr } = qcow2fs('list', '--json', image);
      expect([status, stderr]).toEqual([0, '']);
      const list = JSON.parse(stdout);
      const oracle = JSON.parse(qemuImg('info', '--output=json', image));
      expect(list.image).toBe(image);
      expect(list.current.virtualSizeBytes).toBe(oracle['virtual-size']);
      expect(
        list.snapshots.map(({ id, name, vmStateBytes }: Record<string, unknown>) => [id, name, vmStateBytes]),
      ).toEqual(
        oracle.snapshots.map((snapshot: Record<string, unknown>) => [
          snapshot.id,
          snapshot.name,
          snapshot['vm-state-size'],
        ]),
      );
      expect(list.snapshots.map(({ date }: { date: string }) => Date.parse(date) / 1000)).toEqual(
        oracle.snapshots.map((snapshot: Record<string, unknown>) => snapshot['date-sec']),
      );
      expect(list.snapshots.map((snapshot: Record<string, unknown>) => snapshot.virtualSizeBytes)).toEqual([
        64 << 20,
        100 << 20,
      ]);
    }));

  test('prints a table in which no name can start a new line or colour the terminal', () =>
    withTemporaryFolder((folder) => {
      const { stdout } = qcow2fs('list', createImage(folder));
      const lines = stdout.trimEnd().split('\n');
      expect(lines[0]).toMatch(/^ID {2}NAME +DATE +VIRTUAL SIZE +VM STATE +REFER +USED +WRITTEN$/);
      expect(lines[1]).toMatch(/^1 {3}monday +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ {2}64 MiB +- +0 B +0 B +0 B$/);
      expect(lines[2]).toMatch(/^2 {3}bad\\x0aname \\x1b\[31m {2}\S+Z {2}100 MiB +- +0 B +0 B +0 B$/);
      expect(lines[3]).toMatch(/^- {3}\(current\) +- +100 MiB +- +0 B +0 B +0 B$/);
      expect(lines).toHaveLength(4);
    }));

  test('an image without snapshots has the current state', () =>
    withTemporaryFolder((folder) => {
      qemuImg('create', '-q', '-f', 'qcow2', `${folder}/new.qcow2`, '1G');
      expect(qcow2fs('list', `${folder}/new.qcow2`).stdout).toContain('(current)  -     1 GiB');
    }));

  test('a damaged snapshot table is told on stderr, and the good part is listed', () =>
    withTemporaryFolder((folder) => {
      const image = createImage(folder);
      const bytes = fs.readFileSync(image);
      const table = Number(bytes.readBigUInt64BE(64));
      // The first entry: 40 bytes, 24 of extra data, "1" and "monday", padded to 8; then extra_data_size of the second.
      bytes.writeUInt32BE(5000, table + 72 + 36);
      fs.writeFileSync(image, bytes);
      const { status, stdout, stderr } = qcow2fs('list', image);
      expect(status).toBe(0);
      expect(stdout).toContain('monday');
      expect(stdout).not.toContain('bad');
      expect(stderr).toMatch(/^qcow2fs: warning: snapshot table entry 1 at offset \d+: .*5000 bytes.*\n$/);
    }));
});

describe('info', () => {
  test('--json says what qemu-img says about the header', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      const options = 'cluster_size=16k,refcount_bits=8,lazy_refcounts=on,compression_type=zstd,extended_l2=on';
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, image, '64M');
      const info = JSON.parse(qcow2fs('info', '--json', image).stdout);
      const { 'format-specific': specific, ...oracle } = JSON.parse(qemuImg('info', '--output=json', image));
      expect(info).toMatchObject({
        image,
        version: 3,
        clusterSizeBytes: oracle['cluster-size'],
        allocatedFileBytes: oracle['actual-size'],
        refcountBits: specific.data['refcount-bits'],
        lazyRefcounts: specific.data['lazy-refcounts'],
        compressionType: specific.data['compression-type'],
        extendedL2: specific.data['extended-l2'],
        corrupt: specific.data.corrupt,
        encryption: null,
        backingFile: null,
        unsupportedFeatures: [],
        problems: [],
      });
    }));

  test('shows the chain as far as it goes, and what is missing', () =>
    withTemporaryFolder((folder) => {
      qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.raw', '-F', 'raw', `${folder}/base.qcow2`, '1M');
      qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', `${folder}/top.qcow2`, '1M');
      const { status, stdout, stderr } = qcow2fs('info', `${folder}/top.qcow2`);
      expect(status).toBe(0);
      expect(stdout).toContain(`backing file 1:  ${folder}/base.qcow2 (qcow2, 1 MiB)`);
      expect(stderr).toContain('gone.raw: no such file');
    }));

  test('needs no key for an encrypted image, and says how it is encrypted', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/secret.qcow2`;
      const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
      runMeasuring('qemu-img', [...CREATE_LOCKED, '-o', options, image, '1M']);
      expect(qcow2fs('list', image).status).toBe(0);
      expect(qcow2fs('info', image).stdout).toMatch(/^encryption: +luks, aes-xts-plain64, key of 512 bits$/m);
    }));
});

describe('persistent bitmaps', () => {
  function createWithBitmaps(folder: string): string {
    const image = `${folder}/disk.qcow2`;
    qemuImg('create', '-q', '-f', 'qcow2', image, '64M');
    qemuImg('bitmap', '--add', image, 'daily');
    qemuImg('bitmap', '--add', '-g', '512', image, 'fine');
    qemuImg('bitmap', '--add', '-g', '2G', '--disable', image, 'off \u00fc');
    return image;
  }

  const infoOf = (image: string) => JSON.parse(qcow2fs('info', '--json', image).stdout);

  function expectAsQemu(image: string): void {
    const oracle = JSON.parse(qemuImg('info', '--output=json', image))['format-specific'].data.bitmaps;
    expect(oracle).toHaveLength(3);
    expect(
      infoOf(image).bitmaps.map(({ name, granularityBytes, flags }: Record<string, unknown>) => ({
        name,
        granularity: granularityBytes,
        flags,
      })),
    ).toEqual(oracle);
  }

  test('are listed as qemu-img lists them', () =>
    withTemporaryFolder((folder) => {
      const image = createWithBitmaps(folder);
      expectAsQemu(image);
      expect(infoOf(image)).toMatchObject({ bitmaps: [{ consistent: true }, {}, { flags: [] }], problems: [] });
      const { stdout, stderr } = qcow2fs('info', image);
      expect(stdout).toMatch(/^bitmap: +daily \(granularity 64 KiB, auto\)$/m);
      expect(stdout).toMatch(/^bitmap: +off \u00fc \(granularity 2 GiB\)$/m);
      expect(stderr).toBe('');
    }));

  test('that their writer did not save are in use, and not consistent', () =>
    withTemporaryFolder((folder) => {
      const image = createWithBitmaps(folder);
      const script = `ulimit -c 0; qemu-io -c 'write -q 0 64k' -c flush -c abort ${image}; [ $? -eq 134 ]`;
      runCommand('bash', ['-c', script], { cwd: folder });
      expectAsQemu(image);
      expect(infoOf(image).bitmaps[2]).toEqual({
        name: 'off \u00fc',
        granularityBytes: 2 ** 31,
        flags: ['in-use'],
        consistent: false,
      });
      expect(qcow2fs('info', image).stdout).toContain('daily (granularity 64 KiB, in-use, auto, inconsistent)');
    }));

  test('are stale after a program that does not know them', () =>
    withTemporaryFolder((folder) => {
      const image = createWithBitmaps(folder);
      // Such a program clears the autoclear bits that it does not know.
      const bytes = fs.readFileSync(image);
      bytes.writeBigUInt64BE(0n, 88);
      fs.writeFileSync(image, bytes);
      expect(tryCommand('qemu-img', ['info', image]).stderr).toContain('all bitmaps are now considered inconsistent');
      const { bitmaps, problems } = infoOf(image);
      expect(bitmaps.map(({ consistent }: { consistent: boolean }) => consistent)).toEqual([false, false, false]);
      expect(problems).toEqual([expect.stringContaining('stale')]);
      expect(qcow2fs('list', image).stderr).toBe('');
    }));

  test('with a damaged directory cost only their list, and the place is named', () =>
    withTemporaryFolder((folder) => {
      const image = createWithBitmaps(folder);
      const bytes = fs.readFileSync(image);
      const extension = bytes.indexOf(Buffer.from('23852875', 'hex')) + 8;
      const directory = Number(bytes.readBigUInt64BE(extension + 16));
      bytes.writeUInt8(40, directory + 17);
      fs.writeFileSync(image, bytes);
      const info = infoOf(image);
      expect(info).toMatchObject({ bitmaps: [], current: { virtualSizeBytes: 64 << 20 } });
      expect(info.problems).toEqual([
        expect.stringMatching(`entry 0 at offset ${directory}: granularity_bits is 40, but must be 9 to 31`),
      ]);
      bytes.writeBigUInt64BE(1n << 40n, extension + 16);
      fs.writeFileSync(image, bytes);
      expect(infoOf(image).problems).toEqual([expect.stringContaining(`at offset ${2 ** 40}`)]);
      bytes.writeUInt32BE(65536, extension);
      fs.writeFileSync(image, bytes);
      expect(infoOf(image).problems).toEqual([expect.stringContaining('65536 entries, more than 65535')]);
    }));
});

test('info notes that a rebase changes what snapshots read', () =>
  withTemporaryFolder((folder) => {
    qemuImg('create', '-q', '-f', 'qcow2', `${folder}/base.qcow2`, '1M');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', `${folder}/top.qcow2`);
    const notes = () => JSON.parse(qcow2fs('info', '--json', `${folder}/top.qcow2`).stdout).notes;
    expect(notes()).toEqual([]);
    qemuImg('snapshot', '-c', 'monday', `${folder}/top.qcow2`);
    expect(notes()).toEqual([expect.stringContaining('a rebase of the image changes what they read')]);
    expect(qcow2fs('info', `${folder}/top.qcow2`).stdout).toMatch(/^note: .*rebase/m);
  }));

describe('an encryption that is not supported', () => {
  test('is named, by info and by mount', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/secret.qcow2`;
      const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,encrypt.cipher-alg=serpent-256';
      runMeasuring('qemu-img', [...CREATE_LOCKED, '-o', options, image, '1M']);
      expect(qcow2fs('list', image).status).toBe(0);
      expect(qcow2fs('info', image).stdout).toMatch(/^cannot be mounted: .*LUKS .*"serpent" is not supported/m);
      fs.mkdirSync(`${folder}/mnt`);
      const { status, stderr } = qcow2fs('mount', '--passphrase-file', '/dev/null', image, `${folder}/mnt`);
      expect(status).toBe(1);
      expect(stderr).toMatch(/^qcow2fs: [^\n]*"serpent" is not supported[^\n]*\n$/);
      expect(stderr).toContain(`${image} uses LUKS`);
    }));
});

describe('the launcher', () => {
  test('works through a chain of symlinks and from any folder', () =>
    withTemporaryFolder((folder) => {
      fs.symlinkSync(LAUNCHER, `${folder}/one`);
      fs.symlinkSync('one', `${folder}/two`);
      expect(runCommand('./two', ['--version'], { cwd: folder })).toMatch(/^\d+\.\d+\.\d+\n$/);
    }));
});

describe('wrong use', () => {
  test.each([
    ['an unknown command', ['moutn']],
    ['an unknown option', ['list', '--jsn', 'x']],
    ['a missing argument', ['mount', 'disk.qcow2']],
    ['an argument too many', ['list', 'a', 'b']],
    ['no command', []],
    ['a bad value', ['mount', '--on-missing', 'zeros', '/image', '/mnt']],
  ])('%s is exit 2 and a line that says what', (_, args) => {
    const { status, stdout, stderr } = qcow2fs(...args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    if (args.length > 0) expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
    else expect(stderr).toMatch(/^Usage: qcow2fs /);
  });

  test('a misspelt option is told with the one that may be meant', () => {
    expect(qcow2fs('list', '--jsn', 'x').stderr).toBe(
      "qcow2fs: unknown option '--jsn' (Did you mean --json?); qcow2fs --help, or qcow2fs COMMAND --help, shows how it is used\n",
    );
  });

  test.each([
    ['an image', ['mount', '', '/mnt']],
    ['a mountpoint', ['mount', '/image', '']],
  ])('an empty name for %s is told as such', (_, args) => {
    const stderr = 'qcow2fs: the name of an image or of the mountpoint is empty\n';
    expect(qcow2fs(...args)).toEqual({ status: 2, stdout: '', stderr });
  });

  test.each([
    ['IMAGE', ['list', '']],
    ['IMAGE', ['info', '']],
    ['IMAGE', ['check', '']],
    ['MOUNTPOINT', ['umount', '']],
    ['FILE', ['export', '/image', 'current', '']],
    ['STATE', ['export', '/image', '', '/new']],
    ['IMAGE', ['scratch', '', 'current', '/mnt']],
    ['MOUNTPOINT', ['scratch', '/image', 'current', '']],
    ['IMAGE', ['exec', '', 'current', '--', 'ls']],
    ['--allow-path', ['mount', '--allow-path', '', '/image', '/mnt']],
    ['--allow-path', ['info', '--allow-path', '/a', '--allow-path', '', '/image']],
    ['--backing', ['/image', '/mnt', '--backing', '']],
    ['--data-file', ['export', '--data-file=', '/image', 'current', '/new']],
    ['--passphrase-file', ['list', '--volumes', '--passphrase-file', '', '/image']],
    ['--log-file', ['mount', '--log-file', '', '/image', '/mnt']],
    ['--delta', ['scratch', '--delta', '', '/image', 'current', '/mnt']],
    ['--export', ['scratch', '--export', '', '/image', 'current', '/mnt']],
  ])('an empty %s is told as such: %j', (what, args) => {
    expect(qcow2fs(...args)).toEqual({ status: 2, stdout: '', stderr: `qcow2fs: ${what} is empty\n` });
  });

  test('of -o and of the words of a command of exec, empty ones are none', () => {
    expect(qcow2fs('mount', '-o', '', '/gone/image', '/')).toMatchObject({ status: 1 });
    expect(qcow2fs('exec', '/gone/image', 'current', '--', 'ls', '')).toMatchObject({ status: 125 });
  });

  test('a working directory that was removed is told as such', () =>
    withTemporaryFolder((folder) => {
      // The shells may complain of the folder too.
      const script = `mkdir gone && cd gone && rmdir ../gone && exec ${LAUNCHER} mount disk.qcow2 /mnt`;
      const { status, stderr } = tryCommand('bash', ['-c', script], { cwd: folder });
      expect(status).toBe(1);
      expect(stderr.split('\n').filter((line) => line.startsWith('qcow2fs:'))).toEqual([
        'qcow2fs: the working directory does not exist any more: change to another one, or name files by their whole paths',
      ]);
    }));

  test('help is not an error', () => {
    const { status, stdout } = qcow2fs('--help');
    expect(status).toBe(0);
    for (const command of ['mount', 'umount', 'list', 'info', 'check', 'demo'])
      expect(stdout).toContain(`  ${command} `);
  });
});

test.each([
  ['a file that is not there', (folder: string) => `${folder}/gone`, /: no such file\n$/],
  ['a folder', (folder: string) => folder, /is neither a regular file nor a block device\n$/],
  [
    'an image of another format',
    (folder: string) => {
      qemuImg('create', '-q', '-f', 'vdi', `${folder}/disk.vdi`, '1M');
      return `${folder}/disk.vdi`;
    },
    /is not a qcow2 image: it looks like a VDI image\n$/,
  ],
  [
    'a file of another kind',
    (folder: string) => {
      fs.writeFileSync(`${folder}/text`, 'hello');
      return `${folder}/text`;
    },
    /is not a qcow2 image: it does not start with "QFI\\xfb"\n$/,
  ],
])('%s is exit 1 and one line', (_, prepare, message) =>
  withTemporaryFolder((folder) => {
    for (const command of ['list', 'info']) {
      const { status, stdout, stderr } = qcow2fs(command, prepare(folder));
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
      expect(stderr).toMatch(message);
    }
  }),
);

describe('check', () => {
  /** An image whose L1 table is emptied: everything it mapped is leaked. */
  function createLeaks(folder: string): string {
    const image = createImage(folder);
    runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write 0 1M', image]);
    const bytes = fs.readFileSync(image);
    const l1Offset = Number(bytes.readBigUInt64BE(40));
    bytes.fill(0, l1Offset, l1Offset + 8);
    fs.writeFileSync(image, bytes);
    return image;
  }

  test('of a healthy image is exit 0, and says so', () =>
    withTemporaryFolder((folder) => {
      const { status, stdout, stderr } = qcow2fs('check', createImage(folder));
      expect([status, stderr]).toEqual([0, '']);
      expect(stdout).toMatch(/^verdict: +no problems found$/m);
    }));

  test('of an image with leaks is exit 3, with the first of them', () =>
    withTemporaryFolder((folder) => {
      const { status, stdout, stderr } = qcow2fs('check', createLeaks(folder));
      expect([status, stderr]).toEqual([3, '']);
      expect(stdout).toMatch(/^verdict: +leaks only: /m);
      expect(stdout).toMatch(/^leaked clusters: +17 \(up to 1.06 MiB\)$/m);
      expect(stdout).toMatch(/^leak: 17, the first 8$/m);
      expect(stdout.match(/^ {2}at offset \d+: the refcount is 1, but there are 0 references$/gm)).toHaveLength(8);
    }));

  test('of a corrupt image is exit 2, and --json has the counts and places', () =>
    withTemporaryFolder((folder) => {
      const image = createImage(folder);
      const bytes = fs.readFileSync(image);
      bytes.writeBigUInt64BE(1n << 40n, Number(bytes.readBigUInt64BE(40)));
      fs.writeFileSync(image, bytes);
      const { status, stdout } = qcow2fs('check', '--json', image);
      expect(status).toBe(2);
      expect(JSON.parse(stdout)).toMatchObject({
        image,
        isClean: false,
        corruptionCount: 1,
        leakedClusterCount: 0,
        uncheckedCount: 0,
        countsByKind: { 'past-end': 1 },
        firstProblems: [{ kind: 'past-end', offset: 2 ** 40, message: expect.stringContaining('an L2 table') }],
        fileSizeBytes: bytes.length,
        clusterSizeBytes: 65536,
      });
    }));

  test('that is not complete is exit 1, with a report', () =>
    withTemporaryFolder((folder) => {
      const image = createImage(folder);
      const bytes = fs.readFileSync(image);
      bytes.writeUInt32BE(5000, Number(bytes.readBigUInt64BE(64)) + 36);
      fs.writeFileSync(image, bytes);
      const { status, stdout } = qcow2fs('check', image);
      expect(status).toBe(1);
      expect(stdout).toMatch(/^verdict: +incomplete: /m);
      expect(stdout).toMatch(/^unchecked: 1\n {2}at offset \d+: the snapshot table cannot be read from entry 0 on/m);
    }));

  test('is not done of what is no image, or one with unknown features', () =>
    withTemporaryFolder((folder) => {
      expect(qcow2fs('check', `${folder}/gone`)).toMatchObject({ status: 1, stdout: '' });
      const image = createImage(folder);
      const bytes = fs.readFileSync(image);
      bytes.writeBigUInt64BE(1n << 60n, 72);
      fs.writeFileSync(image, bytes);
      const { status, stdout, stderr } = qcow2fs('check', image);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2fs: .* unknown incompatible features \(0x1000000000000000\)\n$/);
    }));
});

describe('a file for an image that names none', () => {
  test.each([
    ['--backing', 'backing file'],
    ['--data-file', 'external data file'],
  ])('is wrong usage of %s, and opens nothing', (option, what) =>
    withTemporaryFolder((folder) => {
      const image = createImage(folder);
      fs.mkdirSync(`${folder}/mnt`);
      fs.writeFileSync(`${folder}/other`, Buffer.alloc(65536));
      const { status, stdout, stderr } = qcow2fs('mount', option, `${folder}/other`, image, `${folder}/mnt`);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr).toBe(`qcow2fs: ${image} names no ${what}: leave ${option} out\n`);
      expect(fs.readdirSync(`${folder}/mnt`)).toEqual([]);
    }),
  );
});
