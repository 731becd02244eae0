/**
 * The text format of LVM metadata (libdm/libdm-config.c of lvm2), parsed strictly: sections of fields and further
 * sections, where a field is a number, a string, or a list of those.
 *
 *     # comment
 *     section { number = -1  string = "with \" and \\"  list = ["a", 1]  empty = [] }
 *
 * The text is hostile: how deep it goes and how much is in it is limited, so that time and memory are.
 */

import { Qcow2fsError } from '../../errors.ts';
import { quote } from './quote.ts';

export type ConfigScalar = string | number;
export type ConfigValue = ConfigScalar | readonly ConfigScalar[];

/** Names are kept in a Map, as they may be `__proto__`. */
export interface ConfigSection {
  readonly values: ReadonlyMap<string, ConfigValue>;
  /** In the order of the text. */
  readonly sections: ReadonlyMap<string, ConfigSection>;
}

/** What may still be parsed; more than one text may share it. */
export interface ParseBudget {
  /** Fields, sections and items of lists. */
  itemsLeft: number;
}

/** LVM itself writes four: group, `logical_volumes`, volume, segment. */
const MAX_DEPTH = 8;

/** What ends a name or a number in _get_token(), or begins something else; NUL does not come up. */
const ENDS_WORD = new Set(' \t\n\v\f\r#={}[],"\'');
const SPACES = new Set(' \t\n\v\f\r');
/** Longer than any number of 64 bits, with its sign. */
const MAX_NUMBER_LENGTH = 21;
const NUMBER = /^[+-]?\d+(?:\.\d*)?$/;

/**
 * @param text one character per byte (latin1); a NUL byte ends it, as in libdm
 * @throws Qcow2fsError DAMAGED, with the offset in the text.
 */
export function parseConfig(text: string, budget: ParseBudget): ConfigSection {
  const end = text.indexOf('\0');
  const parser = new Parser(end < 0 ? text : text.slice(0, end), budget);
  return parser.section(0);
}

class Parser {
  readonly #text: string;
  readonly #budget: ParseBudget;
  #at = 0;

  constructor(text: string, budget: ParseBudget) {
    this.#text = text;
    this.#budget = budget;
  }

  /** Up to its closing brace, or for the outermost one (depth 0) to the end of the text. */
  section(depth: number): ConfigSection {
    if (depth > MAX_DEPTH) throw this.#damaged('sections are nested too deeply');
    const values = new Map<string, ConfigValue>();
    const sections = new Map<string, ConfigSection>();
    while (!this.#isSectionEnd(depth)) {
      const name = this.#name();
      if (values.has(name) || sections.has(name)) throw this.#damaged(`${quote(name)} is there twice`);
      this.#count();
      if (this.#eat('=')) values.set(name, this.#value());
      else if (this.#eat('{')) sections.set(name, this.section(depth + 1));
      else throw this.#damaged('"=" or "{" is missing');
    }
    return { values, sections };
  }

  #isSectionEnd(depth: number): boolean {
    this.#skipSpace();
    if (depth > 0) return this.#eat('}');
    return this.#at === this.#text.length;
  }

  #name(): string {
    const name = this.#word() || this.#string();
    if (name === undefined) throw this.#damaged('a name is missing');
    return name;
  }

  #value(): ConfigValue {
    if (!this.#eat('[')) return this.#scalar();
    const items: ConfigScalar[] = [];
    while (!this.#eat(']')) {
      if (items.length > 0 && !this.#eat(',')) throw this.#damaged('"," or "]" is missing');
      this.#count();
      items.push(this.#scalar());
    }
    return items;
  }

  #scalar(): ConfigScalar {
    this.#skipSpace();
    const string = this.#string();
    if (string !== undefined) return string;
    const word = this.#word();
    if (word.length > MAX_NUMBER_LENGTH || !NUMBER.test(word)) throw this.#damaged('a number or a string is missing');
    return Number(word);
  }

  /** What is in the quotes here; undefined if there are none. */
  #string(): string | undefined {
    const quote = this.#text[this.#at];
    if (quote !== '"' && quote !== "'") return undefined;
    const start = this.#at + 1;
    let end = start;
    while (end < this.#text.length && this.#text[end] !== quote) {
      end += quote === '"' && this.#text[end] === '\\' ? 2 : 1;
    }
    if (end >= this.#text.length) throw this.#damaged('a string has no end');
    this.#at = end + 1;
    const string = this.#text.slice(start, end);
    // dm_unescape_double_quotes(): a backslash is only special before these two.
    return quote === '"' ? string.replace(/\\(["\\])/g, '$1') : string;
  }

  /** A name or a number; empty if there is none here. */
  #word(): string {
    const start = this.#at;
    while (this.#at < this.#text.length && !ENDS_WORD.has(this.#text[this.#at] as string)) this.#at += 1;
    return this.#text.slice(start, this.#at);
  }

  /** Goes over spaces, comments and `token`, if that is what follows them. */
  #eat(token: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== token) return false;
    this.#at += 1;
    return true;
  }

  #skipSpace(): void {
    for (;;) {
      while (SPACES.has(this.#text[this.#at] ?? '')) this.#at += 1;
      if (this.#text[this.#at] !== '#') return;
      const lineEnd = this.#text.indexOf('\n', this.#at);
      this.#at = lineEnd < 0 ? this.#text.length : lineEnd;
    }
  }

  #count(): void {
    this.#budget.itemsLeft -= 1;
    if (this.#budget.itemsLeft < 0) throw this.#damaged('there is more in it than can be read');
  }

  #damaged(reason: string): Qcow2fsError {
    return new Qcow2fsError('DAMAGED', `${reason} (at offset ${this.#at} of the text)`, { data: { offset: this.#at } });
  }
}
