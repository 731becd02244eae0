/** Damaged and hostile LUKS headers, made from one that QEMU wrote. */

import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { unlockEncryption } from '../../src/qcow2/encryption.ts';
import { openQcow2, type Qcow2File } from '../../src/qcow2/open-qcow2.ts';
import { unsupportedFeatures } from '../../src/qcow2/unsupported-features.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { addKeySlot, createEncryptedImage } from '../oracle/encrypted.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const EXTENSION_MAGIC = Buffer.from('0537be77', 'hex');
const SLOT_BYTES = 48;

/** Offsets in the LUKS header. */
const CIPHER_NAME = 8;
const CIPHER_MODE = 40;
const HASH_SPEC = 72;
const KEY_BYTES = 108;
const DIGEST = 112;
const DIGEST_ITERATIONS = 164;
const SLOTS = 208;

/** An image whose slots 0 and 1 open with `geheim`, and where its LUKS header starts. */
let original: Buffer;
let headerOffset: number;

beforeAll(() =>
  withTemporaryFolder((folder) => {
    const options = ['encrypt.format=luks', 'encrypt.iter-time=10', 'cluster_size=4k'];
    const image = { path: `${folder}/image.qcow2`, passphrase: 'geheim', options, sizeBytes: 1 << 20 };
    createEncryptedImage(image);
    addKeySlot(image, 1, 'geheim');
    original = fs.readFileSync(image.path);
    headerOffset = original.indexOf('LUKS\xba\xbe', 0, 'latin1');
  }),
);

type Change = (image: Buffer, header: Buffer) => void;

function open(change: Change, lengthBytes = original.length): Qcow2File {
  const image = Buffer.from(original.subarray(0, lengthBytes));
  change(image, image.subarray(headerOffset));
  return openQcow2(new BufferStorage(image, 'disk.qcow2'));
}

function unlock(file: Qcow2File, passphrase = 'geheim'): Buffer {
  if (file.encryption === undefined) throw new Error('not encrypted');
  return Buffer.from(unlockEncryption(file.storage, file.encryption, Buffer.from(passphrase)).memory);
}

function inSlots(change: (slot: Buffer) => void): Change {
  return (_, header) => {
    for (const slot of [0, 1]) change(header.subarray(SLOTS + slot * SLOT_BYTES));
  };
}

function writeText(bytes: Buffer, offset: number, text: string): void {
  bytes.fill(0, offset, offset + 32).write(text, offset);
}

test('the header as it is opens', () => {
  expect(unlock(open(() => {})).length).toBe(64);
});

test('a wrong passphrase is told, and so is none', () => {
  for (const passphrase of ['Geheim', '', 'geheim\n\n', 'geheim\r\n', '\n']) {
    const error = catchError(() =>
      unlock(
        open(() => {}),
        passphrase,
      ),
    );
    expect(error.code).toBe('LOCKED');
    expect(error.message).toBe('disk.qcow2: the passphrase is wrong: it opens no key slot');
  }
});

test('a newline behind the passphrase does not keep it from opening, also beside a damaged slot', () => {
  const key = unlock(open(() => {}));
  const isSame = (file: Qcow2File) => unlock(file, 'geheim\n').equals(key);
  expect(isSame(open(() => {}))).toBe(true);
  expect(isSame(open((_, header) => header.writeUInt32BE(0, SLOTS + 44)))).toBe(true);
});

test('a damaged slot is told once, however often it was tried', () => {
  const file = open((_, header) => header.writeUInt32BE(0, SLOTS + 44));
  const { code, message } = catchError(() => unlock(file, 'wrong\n'));
  expect(code).toBe('DAMAGED');
  expect(message).toBe('disk.qcow2: the passphrase opens no key slot; key slot 0: it has 0 stripes, not 4000');
});

test('without a key slot in use, nothing opens', () => {
  const error = catchError(() => unlock(open(inSlots((slot) => slot.writeUInt32BE(0xdead)))));
  expect(error.code).toBe('LOCKED');
  expect(error.message).toContain('no key slot is in use');
});

test('a changed digest of the key lets no passphrase in', () => {
  const error = catchError(() => unlock(open((_, header) => header.writeUInt8((header[DIGEST] ?? 0) ^ 1, DIGEST))));
  expect(error.code).toBe('LOCKED');
});

test('a damaged slot does not keep the next one from opening', () => {
  const changes: ((slot: Buffer) => void)[] = [
    (slot) => slot.writeUInt32BE(0x7fffffff, 40),
    (slot) => slot.writeUInt32BE(0, 44),
    (slot) => slot.writeUInt32BE(0, 4),
    (slot) => slot.fill(0, 8, 40),
  ];
  const key = unlock(open(() => {}));
  for (const change of changes) {
    expect(unlock(open((_, header) => change(header.subarray(SLOTS)))).equals(key)).toBe(true);
  }
});

describe.each<[string, string, Change]>([
  ['stripes', '0 stripes', inSlots((slot) => slot.writeUInt32BE(0, 44))],
  ['many stripes', '4294967295 stripes', inSlots((slot) => slot.writeUInt32BE(0xffffffff, 44))],
  ['no iterations', '0 iterations', inSlots((slot) => slot.writeUInt32BE(0, 4))],
  ['key material outside', 'does not lie in the header', inSlots((slot) => slot.writeUInt32BE(0xffffffff, 40))],
  ['huge iterations', 'rounds of SHA-256', inSlots((slot) => slot.writeUInt32BE(0xffffffff, 4))],
  ['half a minute for a slot', 'rounds of SHA-256', inSlots((slot) => slot.writeUInt32BE(70_000_000, 4))],
  [
    'half a minute of another hash',
    'sha512 that is worth',
    (image, header) => {
      writeText(header, HASH_SPEC, 'sha512');
      inSlots((slot) => slot.writeUInt32BE(45_000_000, 4))(image, header);
    },
  ],
  [
    'huge iterations of the digest',
    'rounds of SHA-256',
    (_, header) => header.writeUInt32BE(0x7fffffff, DIGEST_ITERATIONS),
  ],
  [
    'no iterations of the digest',
    'digest of the key with 0',
    (_, header) => header.writeUInt32BE(0, DIGEST_ITERATIONS),
  ],
  ['a huge key', 'key of 4294967295 bytes', (_, header) => header.writeUInt32BE(0xffffffff, KEY_BYTES)],
  ['an empty key', 'key of 0 bytes', (_, header) => header.writeUInt32BE(0, KEY_BYTES)],
  ['another magic', 'does not start with', (_, header) => header.write('SKUL')],
  [
    'a pointer that is not aligned',
    'not cluster aligned',
    (image) => image.writeBigUInt64BE(BigInt(headerOffset + 512), image.indexOf(EXTENSION_MAGIC) + 8),
  ],
  [
    'a pointer past the end',
    'past the end of the file',
    (image) => image.writeBigUInt64BE(1n << 40n, image.indexOf(EXTENSION_MAGIC) + 8),
  ],
  [
    'a pointer above 2^53',
    'far too large',
    (image) => image.writeBigUInt64BE(1n << 60n, image.indexOf(EXTENSION_MAGIC) + 8),
  ],
  ['a short header', 'only 100 bytes', (image) => image.writeBigUInt64BE(100n, image.indexOf(EXTENSION_MAGIC) + 16)],
  [
    'no pointer',
    'extension for it is missing',
    (image) => image.writeUInt32BE(0x12345678, image.indexOf(EXTENSION_MAGIC)),
  ],
  ['a pointer without LUKS', 'crypt_method is 0', (image) => image.writeUInt32BE(0, 32)],
])('damage: %s', (_, message, change) => {
  test('is told by the key, and keeps nobody from listing the image', () => {
    const file = open(change);
    const error = catchError(() => unlock(file));
    expect(['DAMAGED', 'PAST_END']).toContain(error.code);
    expect(error.message).toContain(message);
  });
});

test.each([1, 300, 591, 5000, 100_000])(
  'a file that ends after %i bytes of the header and its slots is refused',
  (bytes) => {
    const error = catchError(() => unlock(open(() => {}, headerOffset + bytes)));
    expect(error.message).toContain('past the end of the file');
  },
);

test('another version of LUKS is refused by its number', () => {
  const error = catchError(() => unlock(open((_, header) => header.writeUInt16BE(2, 6))));
  expect(error.code).toBe('UNSUPPORTED');
  expect(error.message).toContain('LUKS version 2');
});

describe.each<[string, Change]>([
  ['"serpent"', (_, header) => writeText(header, CIPHER_NAME, 'serpent')],
  ['"twofish"', (_, header) => writeText(header, CIPHER_NAME, 'twofish')],
  ['"ctr"', (_, header) => writeText(header, CIPHER_MODE, 'ctr-plain64')],
  ['"ecb"', (_, header) => writeText(header, CIPHER_MODE, 'ecb')],
  ['"benbi"', (_, header) => writeText(header, CIPHER_MODE, 'xts-benbi')],
  ['hash of essiv', (_, header) => writeText(header, CIPHER_MODE, 'xts-essiv')],
  ['sha1 does not give', (_, header) => writeText(header, CIPHER_MODE, 'xts-essiv:sha1')],
  ['"whirlpool"', (_, header) => writeText(header, HASH_SPEC, 'whirlpool')],
  ['"__proto__"', (_, header) => writeText(header, HASH_SPEC, '__proto__')],
  ['key of 160 bits', (_, header) => header.writeUInt32BE(20, KEY_BYTES)],
])('a cipher or hash that is not supported: %s', (name, change) => {
  test('is refused by its name', () => {
    const file = open(change);
    const error = catchError(() => unlock(file));
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.message).toContain(name);
    expect(unsupportedFeatures(file).join()).toContain(name);
  });
});
