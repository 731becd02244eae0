/** What the volumes that are unlocked together share. */

import { PassphraseReadings } from './passphrase-readings.ts';
import { Pbkdf2Budget } from './pbkdf2-budget.ts';

export interface UnlockSession {
  readonly readings: PassphraseReadings;
  readonly budget: Pbkdf2Budget;
}

export function createUnlockSession(maxRounds?: number): UnlockSession {
  return { readings: new PassphraseReadings(), budget: new Pbkdf2Budget(maxRounds) };
}
