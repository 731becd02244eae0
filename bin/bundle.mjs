/**
 * Makes each program that Node.js starts, a process or a thread, one or a few files: finding and opening two hundred modules
 * takes more than half of the time of a start. The modules themselves stay in `dist`, for those who import one.
 */

import path from 'node:path';
import { rolldown } from 'rolldown';

const DIST = path.resolve(import.meta.dirname, '../dist');
const PROGRAMS = ['cli/main', 'daemon/main', 'daemon/worker', 'daemon/cache-notifier-thread', 'exec/inside-main'];

/** What a module looks for beside itself stays where it is. All files that are written are in a folder of `dist`, too. */
const keepPlaces = {
  name: 'keep-places',
  transform: (code, id) => {
    const place = path.posix.join('..', path.relative(DIST, id));
    return code.replaceAll('import.meta.url', `new URL('${place}', import.meta.url).href`);
  },
};

const bundle = await rolldown({
  input: Object.fromEntries(PROGRAMS.map((name) => [name, path.join(DIST, `${name}.js`)])),
  platform: 'node',
  // Packages stay packages: some of them are optional, or bring files of their own.
  external: /^[^./]/,
  plugins: [keepPlaces],
});
await bundle.write({
  dir: DIST,
  format: 'esm',
  entryFileNames: '[name].js',
  // No name of a module in that folder.
  chunkFileNames: 'common/chunk-[name].js',
});
await bundle.close();
