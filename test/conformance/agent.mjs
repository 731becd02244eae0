/**
 * Uses a mount as whoever runs this process. Its first argument is the mountpoint. A request is a line of JSON on stdin,
 * `[id, operation, …arguments]`; the answer is a line on stdout, `{id, result}` or `{id, code}` with the name of an errno.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';

const PIECE_BYTES = 1024 * 1024;
const [, , root] = process.argv;

const operations = {
  list: (name) => fs.readdirSync(at(name)),
  stat(name) {
    const stat = fs.lstatSync(at(name), { bigint: true });
    return {
      kind: stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'file',
      permissions: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      linkCount: Number(stat.nlink),
      inode: Number(stat.ino),
      sizeBytes: Number(stat.size),
      allocatedBytes: Number(stat.blocks) * 512,
      modifiedNs: String(stat.mtimeNs),
    };
  },
  read: (name, offset, length) =>
    withFile(name, (fd) => {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, fs.readSync(fd, buffer, 0, length, BigInt(offset))).toString('base64');
    }),
  readAll: (name) => fs.readFileSync(at(name)).toString('base64'),
  async sha256(name) {
    const hash = createHash('sha256');
    const file = await fs.promises.open(at(name));
    try {
      const piece = Buffer.alloc(PIECE_BYTES);
      for (;;) {
        const { bytesRead } = await file.read(piece, 0, PIECE_BYTES, null);
        if (bytesRead === 0) return hash.digest('hex');
        hash.update(piece.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  },
  readlink: (name) => fs.readlinkSync(at(name)),
  extents: (name) =>
    run('xfs_io', ['-r', '-c', 'seek -a -r 0', at(name)])
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.replace('\t', ' ')),
  seek(name, whence, offset) {
    const found = run('xfs_io', ['-r', '-c', `seek -${whence[0]} ${offset}`, at(name)])
      .trim()
      .split(/\s/)
      .at(-1);
    return found === 'EOF' ? null : Number(found);
  },
  xattrs(name) {
    const lines = run('getfattr', ['-d', '-m', '-', '-e', 'hex', '-h', '--absolute-names', at(name)]).split('\n');
    return Object.fromEntries(
      lines
        .filter((line) => line.includes('=0x'))
        .map((line) => line.split('=0x'))
        .map(([key, hex]) => [key, Buffer.from(hex, 'hex').toString()]),
    );
  },
  xattr(name, key) {
    return run('getfattr', ['--only-values', '-n', key, '--absolute-names', at(name)]);
  },
  statistics() {
    const { bsize, blocks, bfree, files } = fs.statfsSync(root);
    return { totalBytes: bsize * blocks, freeBytes: bsize * bfree, nodeCount: files };
  },
  tryToWrite: (attempt) => writes[attempt](),
};

const writes = {
  open: () => fs.openSync(at('current/disk.raw'), 'r+'),
  truncate: () => fs.truncateSync(at('current/disk.raw'), 0),
  create: () => fs.writeFileSync(at('new'), 'x'),
  mkdir: () => fs.mkdirSync(at('snapshots/new')),
  symlink: () => fs.symlinkSync('target', at('by-id/new')),
  link: () => fs.linkSync(at('image.json'), at('link')),
  unlink: () => fs.unlinkSync(at('current/disk.raw')),
  rmdir: () => fs.rmdirSync(at('current')),
  rename: () => fs.renameSync(at('image.json'), at('new')),
  chmod: () => fs.chmodSync(at('current/disk.raw'), 0o666),
  chown: () => fs.chownSync(at('current/disk.raw'), process.getuid(), process.getgid()),
  utimes: () => fs.utimesSync(at('current/disk.raw'), 1, 1),
};

function at(name) {
  return path.join(root, name);
}

function withFile(name, body) {
  const fd = fs.openSync(at(name), 'r');
  try {
    return body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

const ERRNO_OF_MESSAGE = [
  ['No such attribute', 'ENODATA'],
  ['Operation not supported', 'EOPNOTSUPP'],
  ['No such file', 'ENOENT'],
];

function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status === 0) return stdout;
  const [, code = `${command}: ${stderr}`] = ERRNO_OF_MESSAGE.find(([message]) => stderr.includes(message)) ?? [];
  throw Object.assign(new Error(stderr), { code });
}

async function answer(line) {
  const [id, operation, ...args] = JSON.parse(line);
  try {
    return { id, result: (await operations[operation](...args)) ?? null };
  } catch (error) {
    return { id, code: error.code ?? error.message };
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  // Not awaited: several requests may be under way at once.
  answer(line).then((reply) => process.stdout.write(`${JSON.stringify(reply)}\n`));
}
