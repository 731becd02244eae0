/** What opening the volumes of one command may cost altogether: each header may be within its limit, and a chain has many. */

import { Qcow2fsError } from '../errors.ts';
import { MAX_PBKDF2_ROUNDS, MAX_TOTAL_PBKDF2_ROUNDS } from './limits.ts';

/** For images that the user has named: as much as for each alone, if those are many. Their backing files add nothing. */
export function totalRounds(imageCount: number): number {
  return Math.max(MAX_TOTAL_PBKDF2_ROUNDS, imageCount * MAX_PBKDF2_ROUNDS);
}

export class Pbkdf2Budget {
  readonly #maxRounds: number;
  #spentRounds = 0;

  constructor(maxRounds = MAX_TOTAL_PBKDF2_ROUNDS) {
    this.#maxRounds = maxRounds;
  }

  /**
   * Before the rounds are done. They are worth so many of SHA-256.
   * @throws Qcow2fsError DAMAGED, naming the file.
   */
  spend(rounds: number, fileName: string): void {
    const sum = this.#spentRounds + rounds;
    if (sum > this.#maxRounds) {
      throw new Qcow2fsError(
        'DAMAGED',
        `${fileName}: the key slots of its LUKS header and of those that were opened before it ask for ${sum} rounds of ` +
          `PBKDF2, more than ${this.#maxRounds}: headers are damaged or made to waste time; if they are not, mount fewer ` +
          'images at once, or join the backing files with qemu-img convert',
        { data: { file: fileName, rounds: sum } },
      );
    }
    this.#spentRounds = sum;
  }
}
