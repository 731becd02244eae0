/** Which format a backing file is read in, by all that an image can say about it: as QEMU does, or both refuse. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { closeImage, openImage, openImageChain } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { buildImage, encodeHeader } from '../fixtures/image-builder.ts';
import { catchError } from '../support/catch-error.ts';
import { tryCommand } from '../support/run-command.ts';
import { createImage, runQemuIo } from './qemu.ts';

const DISK_BYTES = 1 << 20;
const NAME_OFFSET = 2048;
const BACKING_FORMAT = 0xe2792aca;
const DATA_FILE = 0x44415441;
const FEATURE_TABLE = 0x6803f857;
const REFUSED = 'refused';

const folder = tmp.dirSync({ prefix: 'qcow2fs-format-', unsafeCleanup: true });
const top = `${folder.name}/top.qcow2`;
const base = `${folder.name}/base.qcow2`;

beforeAll(() => {
  createImage(base, { sizeBytes: DISK_BYTES, options: ['cluster_size=4k'] });
  runQemuIo(base, ['write -q -P 7 0 8k', 'write -q -P 8 512k 8k']);
  fs.writeFileSync(`${folder.name}/plain.raw`, Buffer.alloc(DISK_BYTES, 9));
});
afterAll(() => folder.removeCallback());

interface Extension {
  readonly type: number;
  readonly data: string | Buffer;
  /** What it says its length is. */
  readonly lengthBytes?: number;
}

/** An image of nothing but a backing file, whose header says what QEMU's tools do not write. */
function writeTop(name: string | undefined, extensions: readonly Extension[], fields = {}): void {
  const encoded = extensions.map(({ type, data, lengthBytes }) => {
    const bytes = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
    bytes.writeUInt32BE(type, 0);
    bytes.writeUInt32BE(lengthBytes ?? data.length, 4);
    Buffer.from(data).copy(bytes, 8);
    return bytes;
  });
  const backing =
    name === undefined ? {} : { backingFileOffset: BigInt(NAME_OFFSET), backingFileSize: Buffer.byteLength(name) };
  fs.writeFileSync(
    top,
    buildImage(4 << 16, [
      [0, encodeHeader({ ...backing, ...fields })],
      [112, Buffer.concat(encoded)],
      [NAME_OFFSET, Buffer.from(name ?? '')],
    ]),
  );
}

/** QEMU takes relative names in `json:` and `file:` from the working directory. */
function readWithQemu(): string {
  const raw = `${folder.name}/qemu.raw`;
  const { status } = tryCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', top, raw], { cwd: folder.name });
  return status === 0 ? nameOf(fs.readFileSync(raw)) : REFUSED;
}

function readHere(chain = {}): string {
  let image: ReturnType<typeof openImage>;
  try {
    image = openImage(top, undefined, { allowedFolders: [], ...chain });
  } catch (error) {
    if (error instanceof Qcow2fsError) return REFUSED;
    throw error;
  }
  try {
    const target = Buffer.alloc(DISK_BYTES, 0xee);
    new StateDisks(image).disk(0).readAt(target, 0, 0, target.length);
    return nameOf(target);
  } finally {
    closeImage(image);
  }
}

function nameOf(bytes: Buffer): string {
  if (bytes.subarray(0, 4).toString('latin1') === 'QFI\xfb') return 'the file as it is';
  const first = `disk of ${bytes[0]}`;
  return bytes.length === DISK_BYTES ? first : `${first}, ${bytes.length} bytes`;
}

const FILE = '"driver":"file","filename":"base.qcow2"';
const FORMATS = [undefined, '', 'qcow2', 'raw', 'file', 'host_device', 'QCOW2', 'raw\0x'];
const NAMES = [
  'base.qcow2',
  'plain.raw',
  'file:base.qcow2',
  `json:{"driver":"raw","file":{${FILE}}}`,
  `json:{"driver":"qcow2","file":{${FILE}}}`,
  `json:{"file":{${FILE}}}`,
  `json:{${FILE}}`,
  `json:{${FILE},"file":{}}`,
  'json:{"file.filename":"base.qcow2"}',
  'json:{"driver":"raw","file.filename":"base.qcow2"}',
  'json:{"filename":"base.qcow2"}',
  'json:{"driver":"qcow2","filename":"base.qcow2"}',
  'json:{"driver":"raw","filename":"base.qcow2"}',
  'json:{"driver":"file","file":{"filename":"base.qcow2"}}',
  'json:{"driver":"nbd","file":{"filename":"base.qcow2"}}',
  'json:{"driver":"qcow2","file":{"driver":"host_device","filename":"base.qcow2"}}',
  'json:{"driver":"host_device","filename":"base.qcow2"}',
  'json:{"driver":"qcow2","file":{"driver":"file","filename":"file:base.qcow2"}}',
  'json:{"driver":"raw","file":"base.qcow2"}',
  'json:{"driver":"qcow2","driver":"raw","file":{"filename":"base.qcow2"}}',
  'json:{"driver":"qcow2","file":{"filename":"plain.raw","filename":"base.qcow2"}}',
  'json:{"driver":"qcow2","file":{"filename":"base.qcow2\\u0000"}}',
  'json:{"driver":"qcow2","file":{"filename":"base.qcow2\\ud800"}}',
  `json:{"driver":"qcow2","read-only":"on","file":{${FILE},"locking":"off"}}`,
  `json:{"driver":"qcow2","lazy-refcounts":"on","file":{${FILE}}}`,
  `json:{"driver":"file","filename":"base.qcow2","locking":"off"}`,
];

describe.each(FORMATS)('a backing file of the format %j', (format) => {
  const extensions = format === undefined ? [] : [{ type: BACKING_FORMAT, data: format }];

  test('is what QEMU reads, whatever its name says, or both refuse', { timeout: 120_000 }, () => {
    const outcomes = NAMES.map((name) => {
      writeTop(name, extensions);
      return { name, here: readHere(), qemu: readWithQemu() };
    });
    expect(outcomes.map(({ name, here }) => [name, here])).toEqual(outcomes.map(({ name, qemu }) => [name, qemu]));
    if (format === 'raw' || format === 'qcow2') {
      expect(new Set(outcomes.map(({ qemu }) => qemu))).toContain(format === 'raw' ? 'the file as it is' : 'disk of 7');
    }
  });
});

describe('two header extensions of one type', () => {
  test.each([
    [['raw', 'qcow2'], 'disk of 7'],
    [['qcow2', 'raw'], 'the file as it is'],
    [['qcow2', 'raw', ''], 'disk of 7'],
  ])('the formats %j: the last one counts', (formats, expected) => {
    writeTop(
      'base.qcow2',
      formats.map((data) => ({ type: BACKING_FORMAT, data })),
    );
    expect([readHere(), readWithQemu()]).toEqual([expected, expected]);
  });

  test('the names of a data file: the last one counts, up to its NUL', () => {
    fs.writeFileSync(`${folder.name}/other.raw`, Buffer.alloc(DISK_BYTES, 10));
    for (const [names, expected] of [
      [['plain.raw', 'other.raw'], 'disk of 10'],
      [['other.raw', 'plain.raw\0x'], 'disk of 9'],
    ] as const) {
      writeTop(
        undefined,
        names.map((data) => ({ type: DATA_FILE, data })),
        { incompatibleFeatures: 4n },
      );
      mapToDataFile();
      expect([readHere(), readWithQemu()]).toEqual([expected, expected]);
    }
  });

  test('the tables of feature names: the last one counts', () => {
    const table = (name: string) => {
      const row = Buffer.alloc(48);
      row.write(`\x00\x29${name}`, 'latin1');
      return { type: FEATURE_TABLE, data: row };
    };
    writeTop(undefined, [table('first'), table('last')], { incompatibleFeatures: 1n << 41n });
    expect(catchError(() => openImage(top)).message).toContain('"last" (bit 41)');
    expect(tryCommand('qemu-img', ['info', top]).stderr).toContain('Unsupported qcow2 feature(s): last\n');
  });

  /** The first cluster of the guest is in the data file: L1 entry in cluster 3, L2 table in cluster 2. */
  function mapToDataFile(): void {
    const image = fs.readFileSync(top);
    image.writeBigUInt64BE((1n << 63n) | (2n << 16n), 3 << 16);
    image.writeBigUInt64BE(1n << 63n, 2 << 16);
    fs.writeFileSync(top, image);
  }
});

describe('a header extension that is larger than its area', () => {
  const OVERRUN = { type: 0x11111111, data: '', lengthBytes: 5000 };
  const RAW = { type: BACKING_FORMAT, data: 'raw' };

  test.each<[string, readonly Extension[], number, string]>([
    ['before the format', [OVERRUN, RAW], 112, 'has 5000 bytes, but the area of the extensions ends at offset 2048'],
    ['without a format', [OVERRUN], 112, 'has 5000 bytes'],
    ['behind an empty format', [{ ...RAW, data: '' }, OVERRUN], 120, 'has 5000 bytes'],
    ['of one byte too many', [{ ...OVERRUN, lengthBytes: 2048 - 120 + 1 }], 112, 'has 1929 bytes'],
    ['that is the end', [{ ...OVERRUN, type: 0 }, RAW], 112, 'has 5000 bytes'],
    ['that is the format', [{ ...RAW, lengthBytes: 0xffffffff }], 112, 'has 4294967295 bytes'],
    ['that is too long for a format', [{ ...RAW, lengthBytes: 16 }], 112, 'has 16 bytes, over 15'],
    ['that is too long for a format, and another', [{ ...RAW, lengthBytes: 8 * 3 }, RAW], 112, 'has 24 bytes, over 15'],
  ])('%s: the format of the backing file is not guessed', (_, extensions, offset, message) => {
    writeTop('base.qcow2', extensions);
    expect(readWithQemu()).toBe(REFUSED);
    const error = catchError(() => openImage(top));
    expect(error.code).toBe('DAMAGED');
    expect(error.message).toContain(`${top}: the header extension at offset ${offset}`);
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/format of its backing file is not known: --backing FILE .* --no-backing/);
    // Once the user says what is below, and whatever that is for who only lists the image.
    expect(readHere({ backingPath: base })).toBe('disk of 7');
    expect(readHere({ backingPath: `${folder.name}/plain.raw` })).toBe('disk of 9');
    const listed = openImageChain(top);
    closeLayers(listed.layers);
    expect(listed.problems).toEqual([expect.stringContaining(message), error.message]);
  });

  test('behind the format costs nothing here', () => {
    writeTop('base.qcow2', [RAW, OVERRUN]);
    expect([readHere(), readWithQemu()]).toEqual(['the file as it is', REFUSED]);
  });

  test('has no room for its head', () => {
    const format = { type: BACKING_FORMAT, data: '' };
    writeTop('base.qcow2', [format, format], { headerLength: 112, backingFileOffset: 132n });
    const image = fs.readFileSync(top);
    image.write('base.qcow2', 132);
    fs.writeFileSync(top, image);
    expect([readHere(), readWithQemu()]).toEqual([REFUSED, REFUSED]);
    expect(catchError(() => openImage(top)).message).toContain('a header extension at offset 128 has no room');
  });

  test.each<[string, readonly Extension[], object]>([
    ['that ends where its area does', [RAW, { ...OVERRUN, lengthBytes: 2048 - 136 }], {}],
    ['that is behind the name of the backing file', [], { headerLength: 4096 }],
  ])('%s is none', (_, extensions, fields) => {
    writeTop('base.qcow2', extensions, fields);
    const image = fs.readFileSync(top);
    Buffer.from('e2792aca0000000372617700', 'hex').copy(image, 4096);
    fs.writeFileSync(top, image);
    const expected = extensions.length > 0 ? 'the file as it is' : 'disk of 7';
    expect([readHere(), readWithQemu()]).toEqual([expected, expected]);
  });
});

test('an empty name is no backing file', () => {
  writeTop('', [{ type: BACKING_FORMAT, data: 'qcow2' }]);
  expect([readHere(), readWithQemu()]).toEqual(['disk of 0', 'disk of 0']);
});

test('an option that is given in two ways is refused, as the order of QEMU is that of a hash table', () => {
  writeTop(`json:{"driver":"qcow2","file":{${FILE}},"file.filename":"plain.raw"}`, []);
  expect(catchError(() => openImage(top)).message).toContain('"file.filename" twice');
});

describe('with --backing', () => {
  const raw = `${folder.name}/raw`;
  const remote = '"host":"gone"';

  test.each([
    ['json:{"driver":"raw","file":{"driver":"file","filename":"gone.raw"}}', undefined, 'the file as it is'],
    ['json:{"driver":"raw","file":{"driver":"file","filename":"gone.raw"}}', 'qcow2', 'disk of 7'],
    ['nbd:localhost:10809', 'raw', 'the file as it is'],
    ['nbd:localhost:10809', undefined, 'disk of 7'],
    // Names that can be opened nowhere, or not here: what they say about the format counts.
    [`json:{"driver":"raw","file":{"driver":"nbd",${remote}}}`, undefined, 'the file as it is'],
    [`json:{"driver":"raw","file.driver":"nbd","file.host":"gone"}`, undefined, 'the file as it is'],
    [`json:{"driver":"raw","file":{"driver":"nbd",${remote}}}`, 'qcow2', 'disk of 7'],
    [`json:{"driver":"qcow2","file":{"driver":"nbd",${remote}}}`, undefined, 'disk of 7'],
    [`json:{"driver":"qcow2","file":{"driver":"nbd",${remote}}}`, 'raw', 'the file as it is'],
    [`json:{"file":{"driver":"nbd",${remote}}}`, undefined, 'disk of 7'],
    [`json:{"driver":"nbd",${remote}}`, 'qcow2', 'disk of 7'],
    [`json:{"driver":"nbd",${remote}}`, 'raw', 'the file as it is'],
  ])('%s of the format %s is replaced by a file of the same format', (name, format, expected) => {
    writeTop(name, format === undefined ? [] : [{ type: BACKING_FORMAT, data: format }]);
    expect(readHere({ backingPath: base })).toBe(expected);
  });

  const GONE_FILE = '"file":{"driver":"file","filename":"gone"}';
  const FILE_HERE = '"file":{"driver":"file","filename":"base.qcow2"}';

  // What QEMU reads where the name leads to the file that is given: nothing of it can be said of another one.
  test.each<[string, string | undefined, string | undefined, string]>([
    [
      `json:{'driver':'raw','file':{'driver':'file','filename':'base.qcow2'}}`,
      undefined,
      'the file as it is',
      'not valid JSON',
    ],
    [`json:{'driver':'raw','file':{'driver':'file','filename':'base.qcow2'}}`, 'qcow2', 'disk of 7', 'not valid JSON'],
    [`json:{"driver":"raw","offset":4096,${FILE_HERE}}`, undefined, 'disk of 0', 'the option "offset"'],
    [`json:{"driver":"raw","offset":4096,${FILE_HERE}}`, 'raw', 'disk of 0', 'the option "offset"'],
    [`json:{"driver":"raw","size":4096,${FILE_HERE}}`, 'raw', 'the file as it is', 'the option "size"'],
    [`json:{"driver":"qcow2","backing":null,${FILE_HERE}}`, undefined, 'disk of 7', 'the option "backing"'],
    [`json:{"backing":{"driver":"null-co"},${FILE_HERE}}`, 'qcow2', 'disk of 7', 'the option "backing.driver"'],
    [
      `json:{"driver":"qcow2","file":{"driver":"raw","offset":0,${FILE_HERE}}}`,
      'qcow2',
      'disk of 7',
      'it has raw below',
    ],
    [`json:{"driver":"raw","file":{"driver":"qcow2",${FILE_HERE}}}`, 'raw', 'disk of 7', 'it has qcow2 below'],
    [`json:{"driver":"throttle","throttle-group":"x",${GONE_FILE}}`, undefined, REFUSED, 'the driver "throttle"'],
    [`json:{"driver":"qcow2","driver":"raw",${FILE_HERE}}`, undefined, REFUSED, 'it gives an option twice'],
    [`json:{"driver":["raw"],${FILE_HERE}}`, undefined, REFUSED, 'its driver is no text'],
    [`json:{"driver":"raw","file":"node"}`, undefined, REFUSED, 'it has node below'],
  ])('%s of the format %s is not replaced', (name, format, qemu, message) => {
    writeTop(name, format === undefined ? [] : [{ type: BACKING_FORMAT, data: format }]);
    expect(readWithQemu()).toBe(qemu);
    const error = catchError(() => openImage(top, undefined, { allowedFolders: [], backingPath: base }));
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.message).toContain(`${top}: no other file can take the place of its backing file "json:`);
    expect(error.message).toContain(message);
    expect(error.message).toContain('name the file itself: qemu-img rebase -u -b FILE -F FORMAT');
  });

  test('the bytes of another protocol are the disk, unless what replaces them looks like qcow2', () => {
    writeTop(`json:{"driver":"nbd",${remote}}`, []);
    fs.writeFileSync(raw, Buffer.alloc(DISK_BYTES, 9));
    expect(readHere({ backingPath: raw })).toBe('disk of 9');
    const error = catchError(() => openImage(top, undefined, { allowedFolders: [], backingPath: base }));
    expect(error.message).toContain(`${base} looks like qcow2, but ${top} names the driver "nbd"`);
  });

  test('where the format is lost, the driver of the name does not stand in for it', () => {
    writeTop(`json:{"driver":"raw","file":{"driver":"nbd",${remote}}}`, [
      { type: 0x12345678, data: '', lengthBytes: 5000 },
    ]);
    expect(readHere({ backingPath: base })).toBe('disk of 7');
  });
});
