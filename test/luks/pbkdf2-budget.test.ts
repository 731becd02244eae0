import { expect, test } from 'vitest';
import { MAX_PBKDF2_ROUNDS } from '../../src/luks/limits.ts';
import { Pbkdf2Budget, totalRounds } from '../../src/luks/pbkdf2-budget.ts';
import { catchError } from '../support/catch-error.ts';

/** What QEMU chooses on a processor without instructions for SHA-256: see `MAX_PBKDF2_ROUNDS`. */
const REAL_SLOT_ROUNDS = 17_000_000;

function spendTimes(budget: Pbkdf2Budget, count: number, rounds: number): void {
  for (let number = 1; number <= count; number++) budget.spend(rounds, `${number}.qcow2`);
}

test('the longest chain of images as QEMU makes them opens, also if the first one is tried twice', () => {
  expect(() => spendTimes(new Pbkdf2Budget(), 65, REAL_SLOT_ROUNDS)).not.toThrow();
});

test('a chain in which each file takes as long as it may does not, and the file that is too much is named', () => {
  const { code, message } = catchError(() => spendTimes(new Pbkdf2Budget(), 64, MAX_PBKDF2_ROUNDS));
  expect(code).toBe('DAMAGED');
  expect(message).toMatch(/^17\.qcow2: [^\n]*2176000000 rounds of PBKDF2, more than 2048000000: /);
});

test('what is refused is not spent', () => {
  const budget = new Pbkdf2Budget(10);
  budget.spend(8, 'a');
  expect(catchError(() => budget.spend(3, 'b')).message).toContain('b: ');
  budget.spend(2, 'c');
});

test('many images that the user names may take as long as each alone', () => {
  expect(totalRounds(1)).toBe(totalRounds(16));
  expect(totalRounds(100)).toBe(100 * MAX_PBKDF2_ROUNDS);
});
