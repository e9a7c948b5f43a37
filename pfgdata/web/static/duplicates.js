// Review of what is there twice: stars around the image to keep, pair by pair, a verdict by key. No file is ever touched.
import { html, useEffect, useMemo, useRef, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { Compare } from './compare.js';
import { isAbort } from './api.js';
import { useLatest } from './hooks.js';
import { counted, grouped } from './text.js';

const EVERY = 300; // ms between two looks at a running search
const MANY = 200; // pairs listed at once
const VERDICTS = { 1: 'different', 2: 'keep-both', 0: null };

/** A search under way or done: asks again until it ends. */
function useSearch(job) {
  const [search, setSearch] = useState(null);
  useEffect(() => {
    setSearch(null);
    if (!job) return undefined;
    const control = new AbortController();
    let timer = 0;
    const look = async () => {
      try {
        const found = await api.duplicates(job, control.signal);
        if (control.signal.aborted) return;
        setSearch(found);
        if (found.state === 'running') timer = setTimeout(look, EVERY);
      } catch (error) {
        if (!isAbort(error)) setSearch({ state: 'failed', error: error.message, stars: [] });
      }
    };
    look();
    return () => { control.abort(); clearTimeout(timer); };
  }, [job]);
  return search;
}

const pairsOf = (stars) => stars.flatMap((star) => star.members.map((member) => ({ keep: star.keep, member })));
const keyOf = ({ keep, member }) => `${keep.content_id} ${member.content_id} ${member.file}`;

function Pair({ pair, active, verdict, onChoose }) {
  const node = useRef(null);
  useEffect(() => { if (active) node.current.scrollIntoView({ block: 'nearest' }); }, [active]);
  return html`<li ref=${node} aria-current=${active} class=${verdict ? 'decided' : ''}>
    <button type="button" onClick=${onChoose}>
      <img src=${api.thumbnail(pair.keep.content_id)} alt="" loading="lazy" />
      <img src=${api.thumbnail(pair.member.content_id)} alt="" loading="lazy" />
      <span class="small">${pair.member.kind}${verdict && html`<br /><b>${verdict}</b>`}</span>
    </button></li>`;
}

function Start({ ask, count, search, job, onJob, onTrouble }) {
  const start = async (event) => {
    event.preventDefault();
    try {
      onJob((await api.findDuplicates(ask, Number(event.target.elements.radius.value))).job);
    } catch (error) { onTrouble(error); }
  };
  const running = search?.state === 'running';
  return html`<form class="start" onSubmit=${start}>
    <span>Among ${count === undefined ? 'the shown images' : counted(count, 'image')}, hashes at most${' '}
      <input name="radius" type="number" min="0" max="32" value="8" aria-label="bits" />${' '}bits apart</span>
    <button type="submit" class="main" disabled=${running}>Find duplicates</button>
    ${running && html`<progress max=${search.total || 1} value=${search.done ?? 0}></progress>
      <button type="button" onClick=${() => api.stopDuplicates(job).catch(onTrouble)}>Cancel</button>`}
  </form>`;
}

function Empty({ job, search }) {
  const says = {
    failed: search?.error, cancelled: 'Cancelled.', done: 'No image here is there twice.',
    running: `${grouped(search?.done ?? 0)} of ${search?.total ? grouped(search.total) : '…'}`,
  }[search?.state] ?? (job ? 'looking…' : 'Copies and variants of one picture are found by their hashes, then compared. No file is changed.');
  return html`<p class=${`empty ${search?.state === 'failed' ? 'problem' : 'quiet'}`}>${says}</p>`;
}

/** The verdicts said here: `said` by pair, and `say(pair, verdict)`; while one is `pending` no other is heard. */
function useVerdicts(onTrouble) {
  const [said, setSaid] = useState({});
  const [pending, setPending] = useState(false);
  const underWay = useRef(false); // two keys may come before anything is drawn
  const say = async (pair, verdict) => {
    if (underWay.current) return false;
    underWay.current = true;
    setPending(true);
    try {
      await api.setVerdict(pair.keep.content_id, pair.member.content_id, verdict);
      setSaid((old) => ({ ...old, [keyOf(pair)]: verdict }));
      onTrouble(null);
      return true;
    } catch (error) {
      onTrouble(error);
      return false;
    } finally {
      underWay.current = false;
      setPending(false);
    }
  };
  return { said, say, pending };
}

function useKeys(handle) {
  const latest = useLatest(handle);
  useEffect(() => {
    const heard = (event) => {
      if (event.target.matches?.('input[type=number], textarea') || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector('dialog[open]')) return;
      if (latest.current(event.key, event.repeat)) { event.preventDefault(); event.stopPropagation(); }
    };
    window.addEventListener('keydown', heard, true);
    return () => window.removeEventListener('keydown', heard, true);
  }, []);
}

/** The pane over the grid; `job` is in the address, so a reload comes back to what was found. */
export function Duplicates({ ask, count, job, onJob, onClose }) {
  const search = useSearch(job);
  const pairs = useMemo(() => pairsOf(search?.stars ?? []), [search]);
  const [{ at, flick, second, many }, setState] = useState({ at: 0, flick: false, second: false, many: MANY });
  const set = (change) => setState((old) => ({ ...old, ...change }));
  const [trouble, setTrouble] = useState(null); // told here: the pane lies over the page's own line
  const { said, say, pending } = useVerdicts(setTrouble);
  const go = (to) => { if (pairs[to]) set({ at: to, second: false, many: Math.max(many, to + 1) }); };
  useEffect(() => { set({ at: 0, second: false, many: MANY }); setTrouble(null); }, [job]);

  const pair = pairs[at];
  const isJudged = pair && pair.keep.content_id !== pair.member.content_id; // equal bytes are one image
  const judge = async (verdict) => {
    if (!isJudged || !(await say(pair, verdict)) || !verdict) return;
    setState((old) => (old.at === at && pairs[at + 1] // a person may have gone elsewhere meanwhile
      ? { ...old, at: at + 1, second: false, many: Math.max(old.many, at + 2) } : old));
  };
  useKeys((key, isHeld) => {
    if (key === 'Escape') onClose();
    else if (!pair) return false;
    else if (key === 'ArrowDown' || key === 'ArrowRight') go(at + 1);
    else if (key === 'ArrowUp' || key === 'ArrowLeft') go(at - 1);
    else if (key === 'f') set({ flick: !flick });
    else if (key === ' ') set({ flick: true, second: flick ? !second : true });
    else if (key in VERDICTS) { if (!isHeld) judge(VERDICTS[key]); }
    else return false;
    return true;
  });
  return html`<div class="duplicates" role="region" aria-label="Duplicates" data-state=${search?.state ?? ''}>
    <header><h2>Duplicates</h2>
      <${Start} ask=${ask} count=${count} search=${search} job=${job} onJob=${onJob} onTrouble=${setTrouble} />
      <button type="button" class="close" title="Back to the grid (Escape)" aria-label="Close" onClick=${onClose}>×</button></header>
    ${trouble && html`<p class="problem trouble" role="alert">${trouble.message}</p>`}
    ${!pair && html`<${Empty} job=${job} search=${search} />`}
    ${pair && html`<div class="review">
      <ol class="pairs" aria-label=${counted(pairs.length, 'pair')}>${pairs.slice(0, many).map((one, index) => html`
        <${Pair} key=${keyOf(one)} pair=${one} active=${index === at} verdict=${said[keyOf(one)]} onChoose=${() => go(index)} />`)}
        ${pairs.length > many && html`<li><button type="button" onClick=${() => set({ many: many + MANY })}>
          ${grouped(pairs.length - many)} more</button></li>`}</ol>
      <section class="judging"><${Compare} pair=${pair} flick=${flick} second=${second} />
        <div class="verdicts"><span class="quiet small">${at + 1} of ${counted(pairs.length, 'pair')}</span>
          <button type="button" aria-pressed=${flick} onClick=${() => set({ flick: !flick })}><kbd>f</kbd> flick</button>
          ${isJudged ? html`
          <button type="button" disabled=${pending} onClick=${() => judge('different')}><kbd>1</kbd> different</button>
          <button type="button" disabled=${pending} onClick=${() => judge('keep-both')}><kbd>2</kbd> keep both</button>
          <button type="button" disabled=${pending || !said[keyOf(pair)]} onClick=${() => judge(null)}><kbd>0</kbd> take back</button>
          <span class="verdict">${said[keyOf(pair)] ?? ''}</span>` : html`<span class="quiet small">equal bytes: one image to every selection</span>`}
        </div></section></div>`}
  </div>`;
}
