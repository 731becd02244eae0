/** Types, labels and UUIDs as libblkid tells them, for what real tools make. */

import { describe, expect, it } from 'vitest';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { askBlkid, nameOnly, probeFile } from './probing.ts';
import { follow, RECIPES } from './recipes.ts';

describe.each(RECIPES)('$title', (recipe) => {
  it('is told as libblkid tells it, and is clean where that can be told', () =>
    withTemporaryFolder((folder) => {
      const file = follow(recipe, folder);
      const outcome = probeFile(file);
      expect(outcome.problems).toEqual([]);
      expect(nameOnly(outcome)).toEqual(askBlkid(file));
      expect(outcome.probe?.type).toBe(recipe.type);
      expect(outcome.probe?.isDirty).toBe(recipe.isDirty);
    }));
});
