/** Copies of this package that a test may damage, or let other users run. */

import fs from 'node:fs';
import path from 'node:path';
import { packageFolder } from '../../src/demo/week.ts';

const CHECKOUT_FILES = ['package.json', 'package-lock.json', 'tsconfig.json', '.tsconfig.build.json', 'bin', 'src'];
/** What it takes to build; `.set-up` says that npm has been here. */
const BUILD_MODULES = [
  'typescript',
  '@typescript',
  '@types',
  'undici-types',
  'rolldown',
  '@rolldown',
  '@oxc-project',
  '.set-up',
];

/** What `npm install` puts on a machine: the files that are published, and the packages needed to run them. */
export function copyInstalledPackage(folder: string): void {
  const { files } = readJson('package.json') as { files: string[] };
  copy(folder, ['package.json', ...files, ...productionModules()]);
}

/** A checkout that is not built yet, with the packages to build and to run it, but not those to test it. */
export function copyCheckout(folder: string): void {
  copy(folder, [...CHECKOUT_FILES, ...productionModules(), ...BUILD_MODULES.map((name) => `node_modules/${name}`)]);
}

function productionModules(): string[] {
  const { packages } = readJson('package-lock.json') as { packages: Record<string, { dev?: boolean }> };
  return Object.keys(packages).filter(
    // Optional packages for other machines are in the list as well.
    (name) => name !== '' && packages[name]?.dev !== true && fs.existsSync(path.join(packageFolder, name)),
  );
}

function copy(folder: string, names: readonly string[]): void {
  for (const name of names) {
    fs.cpSync(path.join(packageFolder, name), path.join(folder, name), { recursive: true });
  }
}

function readJson(name: string): unknown {
  return JSON.parse(fs.readFileSync(path.join(packageFolder, name), 'utf8'));
}
