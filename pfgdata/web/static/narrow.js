// A question made narrower, or wider again, by one condition: what facets and tags do to the query.
import { languageOf } from './address.js';
import { quoted } from './text.js';

const blank = (found) => '\0'.repeat(found.length);

/** `text` with all that stands in quotes or brackets blanked, so that what is left joins its conditions. */
function bare(text, isTags = false) {
  let open = text.replace(isTags ? /"[^"]*"/g : /'(?:[^']|'')*'|"[^"]*"/g, blank);
  for (let before = ''; before !== open;) {
    before = open;
    open = open.replace(/\([^()]*\)/g, blank);
  }
  return open;
}

const isEither = (text, isTags = false) => (isTags ? /(?<!\S)or(?!\S)/i : /\bor\b/i).test(bare(text, isTags));
const inBrackets = (sql) => (isEither(sql) ? `(${sql})` : sql);

/** `sql` without a comment at its end, which would take what follows with it. */
function uncommented(sql) {
  const at = bare(sql).indexOf('--');
  return at < 0 || sql.indexOf('\n', at) >= 0 ? sql : sql.slice(0, at).trimEnd();
}

/** Where `part` stands in `text` as a condition of its own, joined by AND to all others; -1 where it does not. */
function place(text, part, joint) {
  if (text !== part && isEither(text, joint === ' ')) return -1;
  const [whole, wanted] = [joint + text + joint, joint + part + joint];
  const open = bare(whole, joint === ' ');
  let at = whole.indexOf(wanted);
  while (at >= 0 && !open.startsWith(joint, at)) at = whole.indexOf(wanted, at + 1);
  return at;
}

/** Whether `part` stands in the question as a condition of its own. */
export const holds = (ask, part) => {
  const joint = languageOf(ask) === 'tags' ? ' ' : ' AND ';
  return Boolean(part) && place(ask[languageOf(ask)] ?? '', part, joint) >= 0;
};

function without(text, part, joint) {
  const [whole, at] = [joint + text + joint, place(text, part, joint)];
  const rest = whole.slice(0, at) + joint + whole.slice(at + part.length + 2 * joint.length);
  return rest.slice(joint.length, -joint.length || undefined).trim();
}

/** The condition of all images but those of `sql`: what is unknown of them is not it, as with a minus in tags. */
const allBut = (sql) => `NOT ${sql.startsWith('has(') ? sql : `coalesce(${sql}, false)`}`;

const SETTING = /(?<!\S)(?:order|limit):\S+/gi; // words of tags that are no condition: brackets cannot hold them

/** Tags with one more; before it "a or b" stands in brackets, for `or` binds less. */
function withTag(tags, part) {
  if (!isEither(tags, true)) return `${tags} ${part}`;
  return [`(${tags.replace(SETTING, '').trim()})`, part, ...(tags.match(SETTING) ?? [])].join(' ');
}

/** Whether a value that has that `tag`, or none, can narrow `ask`: else its SQL is needed, and of tags that is `compiled`. */
export const canNarrow = (ask, { tag, compiled }) => languageOf(ask) !== 'tags' || Boolean(tag || compiled);

/** `ask`, put as tags, as the SQL that it became, with its order and limit; `compiled` is as `Answer.compiledOf` has it. */
export function inSql(ask, compiled) {
  const { where, order, limit } = compiled;
  return { ...ask, tags: undefined, where: where ?? '', order: order ?? undefined, limit: limit ?? undefined };
}

/**
 * `ask` with the condition `sql` more (or without it, where it stands there already). In tags `tag` is put in; what no tag
 * can say turns the question into SQL: `compiled` is what the tags became. `ask` itself where that is not known.
 */
export function narrowed(ask, { sql, tag, compiled, not = false }) {
  const isTags = languageOf(ask) === 'tags';
  if (isTags && tag) {
    const part = not ? `-${tag}` : tag;
    const tags = holds(ask, part) ? without(ask.tags, part, ' ') : withTag(ask.tags, part);
    return { ...ask, tags };
  }
  if (!canNarrow(ask, { tag, compiled })) return ask;
  const next = isTags ? inSql(ask, compiled) : ask;
  const text = uncommented(next.where ?? '');
  const part = not ? allBut(sql) : inBrackets(sql);
  if (holds({ where: text }, part)) return { ...next, where: without(text, part, ' AND ') };
  return { ...next, where: text ? `${inBrackets(text)} AND ${part}` : part };
}

/** The condition of a tag: `has('x')`, as both languages say it; a name that is no word of tags is SQL alone. */
export const ofTag = (tag) => ({ sql: `has(${quoted(tag)})`, tag: /\s|^or$/i.test(tag) ? null : tag });
