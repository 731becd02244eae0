import { describe, expect, it } from 'vitest';
import { DISK_NODE, FOLDER_NODE, MemoryFileSystem } from './memory-file-system.ts';
import { ask, bytes, errnoOf, replyHeader, request, u32 } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();
const GETXATTR = 22;
const LISTXATTR = 23;

function get(node: number, name: string, size: number): Buffer | undefined {
  return ask(fileSystem, request(GETXATTR, node, Buffer.concat([u32(size, 0), Buffer.from(`${name}\0`)])));
}

describe('GETXATTR', () => {
  it('answers with the value', () => {
    expect(get(FOLDER_NODE, 'user.qcow2.name', 5)).toEqual(
      Buffer.concat([replyHeader(21), bytes('67 72 65 65 6e  "green"')]),
    );
  });

  it('answers size 0 with the length', () => {
    expect(get(FOLDER_NODE, 'user.qcow2.name', 0)).toEqual(
      Buffer.concat([replyHeader(24), bytes('05 00 00 00 00 00 00 00  size')]),
    );
  });

  it('is ERANGE without room, ENODATA without such an attribute, EINVAL without a name', () => {
    expect(errnoOf(get(FOLDER_NODE, 'user.qcow2.name', 4))).toBe(34);
    expect(errnoOf(get(FOLDER_NODE, 'security.selinux', 255))).toBe(61);
    expect(errnoOf(get(DISK_NODE, 'system.posix_acl_access', 0))).toBe(61);
    expect(errnoOf(ask(fileSystem, request(GETXATTR, 1, u32(0, 0, 0))))).toBe(22);
    expect(errnoOf(ask(fileSystem, request(GETXATTR, 1, u32(0, 0))))).toBe(22);
  });
});

describe('LISTXATTR', () => {
  it('answers with all names, each with a NUL', () => {
    expect(ask(fileSystem, request(LISTXATTR, FOLDER_NODE, u32(100, 0)))).toEqual(
      Buffer.concat([replyHeader(32), Buffer.from('user.qcow2.name\0')]),
    );
  });

  it('answers size 0 with the length', () => {
    expect(ask(fileSystem, request(LISTXATTR, FOLDER_NODE, u32(0, 0)))).toEqual(
      Buffer.concat([replyHeader(24), u32(16, 0)]),
    );
  });

  it('is empty for a node without any, and ERANGE without room', () => {
    expect(ask(fileSystem, request(LISTXATTR, DISK_NODE, u32(100, 0)))).toEqual(replyHeader(16));
    expect(errnoOf(ask(fileSystem, request(LISTXATTR, FOLDER_NODE, u32(15, 0))))).toBe(34);
  });
});
