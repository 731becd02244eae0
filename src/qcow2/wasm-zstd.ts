/**
 * The reference library of zstd compiled to WebAssembly, of the package `@foxglove/wasm-zstd`. To import that package is to load it,
 * asynchronously, and V8 reserves gigabytes of addresses for the memory of each module, which a limit on them (`ulimit -v`)
 * does not allow. So only the module itself is taken from it, and made where it is needed, which Emscripten lets its user do in
 * `Module.instantiateWasm`.
 */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import { Qcow2fsError } from '../errors.ts';
import type { DecompressFrame } from './library-zstd.ts';

/** The functions of the module. What points to its memory is an index of `HEAPU8`, which is a new one when the memory grows. */
interface ZstdModule {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  /** Returns how many bytes the frame gives, or -1. */
  _decompress(target: number, targetBytes: number, source: number, sourceBytes: number): number;
}

/** What of the interface of V8 is used: it comes with the types of a browser, which are not taken in here. */
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (compiled: object, imports: object) => Instance;
};

interface Instance {
  readonly exports: object;
}

/** Fills the object that it is given. */
type ModuleFactory = (module: {
  instantiateWasm(imports: object, receive: (instance: Instance) => void): object;
}) => unknown;

/** @throws Error where the package is missing, or V8 has no room for the module. */
export function loadWasmZstd(): DecompressFrame {
  const module = createModule();
  return (frame, maxBytes) => {
    const source = allocate(module, frame.length);
    try {
      const target = allocate(module, maxBytes);
      try {
        module.HEAPU8.set(frame, source);
        const count = module._decompress(target, maxBytes, source, frame.length);
        if (count < 0 || count > maxBytes) throw new Error('zstd reports an error');
        return Buffer.from(module.HEAPU8.subarray(target, target + count));
      } finally {
        module._free(target);
      }
    } finally {
      module._free(source);
    }
  };
}

function createModule(): ZstdModule {
  const require = createRequire(import.meta.url);
  const create = require('@foxglove/wasm-zstd/dist/wasm-zstd.js') as ModuleFactory;
  const compiled = new WebAssembly.Module(fs.readFileSync(require.resolve('@foxglove/wasm-zstd/dist/wasm-zstd.wasm')));
  let failure: unknown;
  const module = {
    // An error must not leave here: the module would report it on stderr, and load itself a second time.
    instantiateWasm: (imports: object, receive: (instance: Instance) => void) => {
      try {
        const instance = new WebAssembly.Instance(compiled, imports);
        receive(instance);
        return instance.exports;
      } catch (error) {
        failure = error;
        return {};
      }
    },
  };
  create(module);
  if (failure !== undefined) throw failure;
  return module as unknown as ZstdModule;
}

/** malloc(3) returns 0 where the memory cannot grow. */
function allocate(module: ZstdModule, bytes: number): number {
  const pointer = module._malloc(bytes);
  if (pointer === 0) throw new Qcow2fsError('IO', `there is no memory for ${bytes} bytes`);
  return pointer;
}
