import { expect, test } from 'vitest';
import { createSharedTextMemory, SharedText } from '../../src/common/shared-text.ts';

test('a text is made when it is first asked for, once for all that share its memory', () => {
  const memory = createSharedTextMemory(100);
  let makeCount = 0;
  const texts = [memory, structuredClone(memory)].map(
    (each) =>
      new SharedText(each, function* () {
        makeCount += 1;
        yield 'größer ';
        yield 'als 1 €';
      }),
  );
  expect(makeCount).toBe(0);
  for (const text of [...texts, ...texts]) expect(text.bytes()).toEqual(Buffer.from('größer als 1 €'));
  expect(makeCount).toBe(1);
});

test('a text that does not fit is an error, each time, and never a part of the text', () => {
  const text = new SharedText(createSharedTextMemory(8), () => ['12345', '€€']);
  for (let attempt = 0; attempt < 2; attempt++) expect(() => text.bytes()).toThrow('longer than the 8 bytes');
});
