// A question made narrower, or wider again, by one condition: what facets and tags do to the query.
import { languageOf } from './address.js';
import { quoted } from './text.js';

const inBrackets = (sql) => (/\bor\b/i.test(sql) ? `(${sql})` : sql);

/** Whether `part` stands in the question as a condition of its own. */
export const holds = (ask, part) => {
  const text = ask[languageOf(ask)] ?? '';
  const joint = languageOf(ask) === 'tags' ? ' ' : ' AND ';
  return Boolean(part) && (joint + text + joint).includes(joint + part + joint);
};

function without(text, part, joint) {
  const rest = (joint + text + joint).replace(joint + part + joint, joint);
  return rest.slice(joint.length, -joint.length || undefined).trim();
}

/**
 * `ask` with the condition `sql` more (or without it, where it stands there already). In tags `tag` is put in; what no tag
 * can say turns the question into SQL: `compiled` is what the tags became.
 */
export function narrowed(ask, { sql, tag, compiled, not = false }) {
  const isTags = languageOf(ask) === 'tags';
  if (isTags && tag) {
    const part = not ? `-${tag}` : tag;
    const tags = holds(ask, part) ? without(ask.tags, part, ' ') : `${ask.tags} ${part}`;
    return { ...ask, tags };
  }
  const text = (isTags ? compiled : ask.where) ?? '';
  const part = not ? `NOT (${sql})` : inBrackets(sql);
  const next = { ...ask, tags: undefined };
  if (holds({ where: text }, part)) return { ...next, where: without(text, part, ' AND ') };
  return { ...next, where: text ? `${inBrackets(text)} AND ${part}` : part };
}

/** The condition of a tag: `has('x')`, as both languages say it. */
export const ofTag = (tag) => ({ sql: `has(${quoted(tag)})`, tag });
