/** Fields of parsed metadata, with what they must be. */

import { Qcow2fsError } from '../../errors.ts';
import type { ConfigScalar, ConfigSection } from './parse-config.ts';
import { quote } from './quote.ts';

const NO_SECTION: ConfigSection = { values: new Map(), sections: new Map() };

/** ID_LEN characters (lib/uuid/uuid.h), in groups as LVM prints them. */
const UUID =
  /^([0-9A-Za-z!#]{6})([0-9A-Za-z!#]{4})([0-9A-Za-z!#]{4})([0-9A-Za-z!#]{4})([0-9A-Za-z!#]{4})([0-9A-Za-z!#]{4})([0-9A-Za-z!#]{6})$/;
/** validate_name() in lib/misc/lvm-string.c, and NAME_LEN with its NUL. */
const NAME = /^(?!-)(?!\.{1,2}$)[0-9A-Za-z_.+-]{1,127}$/;
/** Segment types and flags: `striped`, `cache-pool+METADATA_FORMAT`, `WRITE`. */
const KEYWORD = /^[0-9A-Za-z_+-]{1,64}$/;

/** A section; an empty one if there is none: LVM leaves out what is empty. */
export function sectionOf(section: ConfigSection, name: string): ConfigSection {
  return section.sections.get(name) ?? NO_SECTION;
}

/** @throws Qcow2fsError DAMAGED unless the field is a whole number of 0 or more. */
export function countOf(section: ConfigSection, field: string): number {
  const value = section.values.get(field);
  if (!isCount(value)) throw invalid(`${field} is missing or no count`);
  return value;
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** @throws Qcow2fsError DAMAGED unless the field is a string. */
export function textOf(section: ConfigSection, field: string): string {
  const value = section.values.get(field);
  if (typeof value !== 'string') throw invalid(`${field} is missing or no string`);
  return value;
}

/** @throws Qcow2fsError DAMAGED unless the field is a UUID. */
export function uuidOf(section: ConfigSection, field: string): string {
  return toUuid(textOf(section, field).replaceAll('-', ''));
}

/** A UUID without its hyphens as LVM prints it. @throws Qcow2fsError DAMAGED if it is none. */
export function toUuid(characters: string): string {
  const groups = UUID.exec(characters);
  if (groups === null) throw invalid(`${quote(characters)} is no UUID`);
  return groups.slice(1).join('-');
}

/** @throws Qcow2fsError DAMAGED for a name that LVM does not allow. */
export function requireName(name: string): string {
  if (!NAME.test(name)) throw invalid(`${quote(name)} is no name that LVM allows`);
  return ownCopy(name);
}

/** @throws Qcow2fsError DAMAGED unless the field is a word such as a segment type. */
export function keywordOf(section: ConfigSection, field: string): string {
  return requireKeyword(textOf(section, field));
}

/** A list of words; a field that is missing is an empty one. @throws Qcow2fsError DAMAGED if it is something else. */
export function keywordsOf(section: ConfigSection, field: string): string[] {
  return listOf(section, field).map((item) => requireKeyword(String(item)));
}

/** A list; a single value is a list of one, and a field that is missing an empty one. */
export function listOf(section: ConfigSection, field: string): readonly ConfigScalar[] {
  const value = section.values.get(field) ?? [];
  return typeof value === 'object' ? value : [value];
}

/** For what LVM would not have written. */
export function invalid(message: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', message);
}

/** V8 makes a part of a string refer to the whole of it: the metadata text would stay as long as the name. */
export function ownCopy(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function requireKeyword(word: string): string {
  if (!KEYWORD.test(word)) throw invalid(`${quote(word)} is no keyword`);
  return ownCopy(word);
}
