// The one place that talks to the server: JSON in, JSON out, and errors that say where a question went wrong.
import { queryString, tidy } from './address.js';

/** What the server refused: `status`, one line, and for a question the characters `at` fault and what is `near`. */
export class Refusal extends Error {
  constructor(status, answer) {
    super(answer.error || `the server answered ${status}`);
    this.status = status;
    this.at = answer.at ?? null;
    this.near = answer.near ?? [];
  }
}

/** Whether an error only says that nobody waits any more. */
export const isAbort = (error) => error?.name === 'AbortError';

async function fetched(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Refusal(0, { error: 'pfgdata browse does not answer: was it stopped?' });
  }
  const answer = await response.json().catch((error) => { if (isAbort(error)) throw error; return {}; });
  if (!response.ok) throw new Refusal(response.status, answer);
  return answer;
}

const get = (path, signal) => fetched(path, { signal });

const send = (method, path, body) => fetched(path, {
  method,
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body ?? {}),
});

function withQuery(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== '');
  return `${path}?${new URLSearchParams(given)}`;
}

export const store = () => get('/api/store');
export const count = (ask, signal) => get(`/api/count${queryString(ask)}`, signal);
export const complete = (text, at, language, signal) => get(withQuery('/api/complete', { text, at, language }), signal);
export const image = (id, { threshold, character_threshold }, signal) => (
  get(withQuery(`/api/image/${id}`, { threshold, character_threshold }), signal));
export const similar = (id, k, ask, signal) => get(withQuery(`/api/similar/${id}`, { k, ...ask }), signal);
export const copies = (id, signal) => get(`/api/copies/${id}`, signal);
export const saveSelection = (body) => send('POST', '/api/selections', body);
export const findDuplicates = (ask, radius) => send('POST', '/api/duplicates', { ask, radius });
export const duplicates = (job, signal) => get(`/api/duplicates/${job}`, signal);
export const stopDuplicates = (job) => send('DELETE', `/api/duplicates/${job}`);
export const setVerdict = (one, two, verdict) => send('POST', '/api/verdicts', { one, two, verdict });
export const thumbnail = (id) => `/thumb/${id}.jpg`;
export const picture = (id) => `/picture/${id}`;

/** Why `url` shows no picture, in the server's words; "" where it does show one. */
export async function whyNot(url, signal) {
  const response = await fetch(url, { signal });
  if (response.ok) return '';
  return (await response.json().catch(() => ({}))).error || `the server answered ${response.status}`;
}

/** A question that was answered: the server keeps its rows for a while, and forgets; then it is asked again. */
export class Answer {
  constructor(ask, facts) {
    this.ask = ask;
    this.facts = facts;
    this.asking = null;
    this.onRenewed = () => {}; // hears that the rows are of a later moment of the store
  }

  /** Ask; with `fresh` of the store as it is now, else of the moment that the server shows. */
  static async ask(ask, { signal, fresh = false } = {}) {
    return new Answer(ask, await get(withQuery('/api/select', { ...tidy(ask), fresh: fresh ? 1 : '' }), signal));
  }

  get count() { return this.facts.count; }

  /** What `ask` became as SQL, `{where, order, limit}`; null where this answers another question. */
  compiledOf(ask) { return queryString(ask) === queryString(this.ask) ? this.facts : null; }

  /** `[content_id, width, height]` of the rows from `start` on. */
  async rows(start, size, signal) {
    return (await this.#kept((id) => get(`/api/rows/${id}?start=${start}&count=${size}`, signal))).rows;
  }

  facet(name, signal) {
    return this.#kept((id) => get(withQuery(`/api/facets/${id}`, { facet: name }), signal));
  }

  async #kept(request) {
    const { id } = this.facts;
    try {
      return await request(id);
    } catch (error) {
      if (error.status !== 410) throw error;
      if (this.facts.id === id) await this.#again();
      return request(this.facts.id);
    }
  }

  // Many requests may find at once that the rows were forgotten: they wait for one new answer.
  async #again() {
    this.asking ??= get(`/api/select${queryString(this.ask)}`).finally(() => { this.asking = null; });
    const { count } = this;
    this.facts = await this.asking;
    if (this.count !== count) this.onRenewed();
  }
}
