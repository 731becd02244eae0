import { expect, test } from 'vitest';
import { PassphraseReadings } from '../../src/luks/passphrase-readings.ts';

function textsOf(readings: PassphraseReadings, passphrase: string): string[] {
  return readings.of(Buffer.from(passphrase)).map(String);
}

test('a passphrase is what it is, and only then what is in front of a newline at its end', () => {
  const readings = new PassphraseReadings();
  expect(textsOf(readings, 'x')).toEqual(['x']);
  expect(textsOf(readings, '')).toEqual(['']);
  expect(textsOf(readings, 'x\ny')).toEqual(['x\ny']);
  expect(textsOf(readings, 'x\n\n')).toEqual(['x\n\n', 'x\n']);
  expect(textsOf(readings, '\n')).toEqual(['\n', '']);
});

test('what has opened a volume is tried first on the next one', () => {
  const readings = new PassphraseReadings();
  readings.noteOpened(Buffer.from('x\n'), Buffer.from('x'));
  expect(textsOf(readings, 'y\n')).toEqual(['y', 'y\n']);
  expect(textsOf(readings, 'y')).toEqual(['y']);
  readings.noteOpened(Buffer.from('y'), Buffer.from('y'));
  expect(textsOf(readings, 'y\n')).toEqual(['y', 'y\n']);
  readings.noteOpened(Buffer.from('y\n'), Buffer.from('y\n'));
  expect(textsOf(readings, 'y\n')).toEqual(['y\n', 'y']);
});
