// The address is the query: its query string holds what `pfgdata query` would be told, its fragment what is looked at.
// Nothing else remembers the question, so a reload, a bookmark and the back button are all the same thing.

/** The options of a question, in the order in which the address has them. */
export const KEYS = ['where', 'tags', 'threshold', 'character_threshold', 'order', 'sample', 'seed', 'limit'];

/** The question in a query string: a plain object of texts, without what is empty. */
export function readAsk(search) {
  const found = new URLSearchParams(search);
  return tidy(Object.fromEntries(KEYS.map((key) => [key, found.get(key) ?? ''])));
}

/** `ask` without empty values, in the order of KEYS: equal questions have equal texts. */
export function tidy(ask) {
  const kept = KEYS.filter((key) => String(ask[key] ?? '').trim() !== '');
  return Object.fromEntries(kept.map((key) => [key, String(ask[key])]));
}

/** In which language a question is put: "where" (SQL) or "tags". */
export const languageOf = (ask) => (ask.tags !== undefined && ask.where === undefined ? 'tags' : 'where');

/** The query string of a question: "" or "?where=...". */
export function queryString(ask) {
  const text = new URLSearchParams(tidy(ask)).toString();
  return text && `?${text}`;
}

/** What the fragment says: `{name, value}`, as `#image=ID` or `#duplicates`; the name is "" for the bare grid. */
export function readView(hash) {
  const [name, value = ''] = hash.replace(/^#/, '').split('=', 2);
  let text = '';
  try { text = decodeURIComponent(value); } catch { /* a fragment that someone mistyped opens nothing */ }
  return { name: text || !value ? name : '', value: text };
}

/** The address of the page: `ask` and `view` as they are now, and how to go elsewhere. */
export class Address {
  constructor(onChange) {
    this.onChange = onChange;
    this.read();
    for (const event of ['popstate', 'hashchange']) window.addEventListener(event, () => { this.read(); onChange(); });
  }

  read() {
    this.ask = readAsk(location.search);
    this.view = readView(location.hash);
  }

  /** Ask another question: one step of the browser's history. */
  go(ask) {
    if (queryString(ask) === queryString(this.ask)) return;
    this.#set(queryString(ask), '', false);
  }

  /** Look at `name` (and `value`); `instead` replaces the last step, as when one image follows another. */
  look(name, value = '', { instead = false } = {}) {
    const hash = name && `#${name}${value && `=${encodeURIComponent(value)}`}`;
    if (hash !== location.hash) this.#set(queryString(this.ask), hash, instead);
  }

  #set(search, hash, instead) {
    const url = `${location.pathname}${search}${hash}`;
    if (instead) history.replaceState(null, '', url);
    else history.pushState(null, '', url);
    this.read();
    this.onChange();
  }
}
