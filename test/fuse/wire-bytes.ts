/** Requests and replies as annotated bytes. */

import { vi } from 'vitest';
import type { FileSystem } from '../../src/filesystem/file-system.ts';
import { Exchange, type ServeOptions } from '../../src/fuse/exchange.ts';
import { handleRequest } from '../../src/fuse/handle-request.ts';

/** Bytes from lines of hexadecimal pairs; what follows two blanks is a comment. */
export function bytes(text: string): Buffer {
  const digits = text.split('\n').map((line) => line.trim().split('  ', 1)[0] ?? '');
  return Buffer.from(digits.join('').replaceAll(' ', ''), 'hex');
}

/** A request with the unique 0x8899aabbccddeeff. Its numbers are those of the wire, so that a test shows them. */
export function request(opcode: number, node: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt32LE(40 + body.length, 0);
  header.writeUInt32LE(opcode, 4);
  header.writeBigUInt64LE(0x8899aabbccddeeffn, 8);
  header.writeBigUInt64LE(BigInt(node), 16);
  return Buffer.concat([header, body]);
}

/** The header of the reply to `request`: `error` is 0 or negative. */
export function replyHeader(length: number, error = 0): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(length, 0);
  header.writeInt32LE(error, 4);
  header.writeBigUInt64LE(0x8899aabbccddeeffn, 8);
  return header;
}

export interface AskOptions extends Partial<ServeOptions> {
  readonly replyBodyBytes?: number;
}

export function makeExchange(fileSystem: FileSystem, options: AskOptions = {}): Exchange {
  const { directIo = false, isWritable = false, replyBodyBytes } = options;
  return new Exchange(fileSystem, { directIo, isWritable }, replyBodyBytes);
}

/** The whole reply to a request; undefined if there is none. */
export function ask(fileSystem: FileSystem, requestBytes: Buffer, options: AskOptions = {}): Buffer | undefined {
  return askExchange(makeExchange(fileSystem, options), requestBytes);
}

export function askExchange(exchange: Exchange, requestBytes: Buffer): Buffer | undefined {
  requestBytes.copy(exchange.request);
  const length = handleRequest(exchange, requestBytes.length);
  return length === 0 ? undefined : Buffer.from(exchange.reply.subarray(0, length));
}

/** The errno of a reply that is an error, 0 for any other. */
export function errnoOf(reply: Buffer | undefined): number {
  return reply === undefined ? 0 : -reply.readInt32LE(4);
}

export function u32(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) buffer.writeUInt32LE(value, index * 4);
  return buffer;
}

/** The body of READ, READDIR and READDIRPLUS. */
export function readBody(offset: number | bigint, size: number): Buffer {
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(size, 16);
  return body;
}

/** Collects what `warn` prints from now on, instead of showing it. */
export function collectWarnings(): string[] {
  const warnings: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    warnings.push(String(chunk));
    return true;
  });
  return warnings;
}
