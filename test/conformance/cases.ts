/** What has to be true of every transport: each operation, each error, each part of the tree. */

import { CONTENTS_CASES } from './contents-cases.ts';
import { TREE_CASES } from './tree-cases.ts';

export const CASES = { ...TREE_CASES, ...CONTENTS_CASES };

export type CaseName = keyof typeof CASES;
