// The page: what the address asks is answered, shown and looked at. Panes hear of each other only through here.
import { html, render, useEffect, useMemo, useReducer, useRef, useState } from './vendor/htm-preact.js';
import { Address, queryString, readAsk, tidy } from './address.js';
import * as api from './api.js';
import { Answer } from './api.js';
import { CopyMenu } from './copy.js';
import { Closely, Detail } from './detail.js';
import { GoTo, Help, Save } from './dialogs.js';
import { Duplicates } from './duplicates.js';
import { Facets } from './facets.js';
import { GridPane } from './gridpane.js';
import { useLatest, useLoaded } from './hooks.js';
import { listen } from './keys.js';
import { Marks } from './marks.js';
import { MarksBar } from './marksbar.js';
import { OrderBar } from './order.js';
import { SearchBox } from './searchbox.js';
import { counted, duration, grouped } from './text.js';
import { Thresholds } from './thresholds.js';

const SIDE = 'pfg-side'; // of a thumbnail, in px, remembered

function useAddress() {
  const [, turn] = useReducer((count) => count + 1, 0);
  return useMemo(() => new Address(turn), []);
}

function useSide() {
  const [side, setSide] = useState(Number(localStorage.getItem(SIDE)) || 160);
  return [side, (next) => { localStorage.setItem(SIDE, next); setSide(next); }];
}

// The first question is asked before anything is drawn: the store's facts and the answer come together. It is fresh: what
// came into the store since the last page is seen when a page is loaded.
let first = { text: queryString(readAsk(location.search)), answer: Answer.ask(readAsk(location.search), { fresh: true }) };
first.answer.catch(() => {}); // told by who waits for it

function answerTo(ask, signal) {
  const early = first;
  first = null;
  return early?.text === queryString(ask) ? early.answer : Answer.ask(ask, { signal });
}

/** The answer that is shown; the one before it stays until the next is there. `onRenewed` hears that its rows are others now. */
function useAnswer(ask, onRenewed) {
  const shown = useRef(null);
  const heard = useLatest(onRenewed);
  const { value, error, busy } = useLoaded((signal) => answerTo(ask, signal), [queryString(ask)]);
  if (value) {
    shown.current = value;
    value.onRenewed = () => heard.current();
  }
  return { answer: shown.current, mistake: error, busy };
}

/** What the keys do; `view` is what is looked at, `look` goes there. */
function keyHandlers({ grid, marks, view, look, set, open }) {
  const current = () => grid.current;
  const onCursor = async (does) => {
    const id = view.name === 'image' ? view.value : await current().idOf(current().cursor);
    if (id) does(id);
  };
  const steps = () => ({
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -current().columns, ArrowDown: current().columns,
    PageUp: -current().columns * current().linesSeen, PageDown: current().columns * current().linesSeen,
    Home: -Infinity, End: Infinity,
  });
  const anywhere = {
    search: () => document.getElementById('query').select(),
    copy: () => set({ copying: true }),
    duplicates: () => look('duplicates'),
    help: () => set({ dialog: 'help' }),
    close: () => { set({ copying: false, dialog: '' }); if (view.name) look(''); document.querySelector('.grid').focus(); },
  };
  if (view.name === 'duplicates') return anywhere;
  return {
    ...anywhere,
    move: (event) => current().moveBy(steps()[event.key]),
    open: () => open(current().cursor),
    select: () => onCursor((id) => marks.toggle(id, 'selected')),
    exclude: () => onCursor((id) => marks.toggle(id, 'excluded')),
    closely: () => onCursor((id) => { look('image', id); set({ closely: true }); }),
    goTo: () => set({ dialog: 'goto' }),
  };
}

function Count({ answer, busy, facts }) {
  if (!answer) return html`<span class="count quiet">${busy ? 'asking…' : ''}</span>`;
  const { count, contents, seconds } = answer.facts;
  const same = contents !== undefined && contents !== null && contents < count
    ? `, ${grouped(contents)} distinct` : '';
  return html`<span class="count" aria-live="polite" data-count=${count}><b>${grouped(count)}</b>
    <span class="quiet"> of ${counted(facts.images, 'image')}${same} · ${duration(seconds)}</span></span>`;
}

function Dialogs({ shown, answer, marks, grid, onClose, onAsk, onSaved }) {
  if (shown === 'help') return html`<${Help} onClose=${onClose} />`;
  if (shown === 'goto' && answer?.count) {
    return html`<${GoTo} count=${answer.count} onClose=${onClose} onGo=${(row) => grid.current.moveTo(row, { first: true })} />`;
  }
  if (shown === 'save' && answer) {
    return html`<${Save} answer=${answer} marks=${marks} onClose=${onClose} onSaved=${onSaved}
      onShow=${(name) => onAsk({ where: `@${name}` })} />`;
  }
  return null;
}

/** The page of one store; `onStale` hears that its facts are to be asked for again. */
function Page({ facts, onStale }) {
  const address = useAddress();
  const { ask, view } = address;
  const { answer, mistake, busy } = useAnswer(ask, onStale);
  const compiled = answer?.compiledOf(ask) ?? null;
  const grid = useRef(null);
  const marks = useMemo(() => new Marks(facts.path), [facts.path]);
  const [side, setSide] = useSide();
  const [state, setState] = useState({ dialog: '', copying: false, closely: false, trouble: null });
  const set = (change) => setState((old) => ({ ...old, ...change }));
  const look = (name, value, how) => address.look(name, value, how);
  const go = (next) => address.go(tidy(next));
  const opening = useRef(0);
  const trouble = (error) => set({ trouble: error });

  // Only the last of several images opened in haste is shown.
  const open = async (index) => {
    opening.current += 1;
    const mine = opening.current;
    const id = await grid.current.idOf(index).catch(trouble);
    if (id && mine === opening.current) look('image', id, { instead: address.view.name === 'image' });
  };
  const handlers = useLatest(keyHandlers({ grid, marks, view, look, set, open }));
  useEffect(() => listen(handlers), []);
  useEffect(() => { document.title = `${(ask.where ?? ask.tags ?? '') || 'All images'} · ${facts.name}`; }, [ask, facts]);
  useEffect(() => { if (view.name === 'row') grid.current.moveTo(Number(view.value) - 1, { first: true }); }, [view, answer]);
  useEffect(() => { if (view.name !== 'image') set({ closely: false }); }, [view.name]);

  const on = {
    cursor: (index) => { if (address.view.name === 'image') open(index); },
    open,
    trouble,
    shown: () => set({ trouble: null }),
  };
  return html`<div class=${`page ${view.name === 'image' ? 'with-detail' : ''}`} data-busy=${String(busy)}>
    <header class="top">
      <a class="name" href="/" title=${facts.path} onClick=${(event) => { event.preventDefault(); go({}); }}>${facts.name}</a>
      <${SearchBox} ask=${ask} mistake=${mistake} compiled=${compiled}
        onAsk=${(language, text, beside) => go({ ...ask, where: undefined, tags: undefined, ...beside, [language]: text })}
        onLeave=${() => document.querySelector('.grid').focus()} />
      <nav>
        <${CopyMenu} answer=${answer} open=${state.copying} onToggle=${(copying) => set({ copying })} />
        <button type="button" title="Review duplicates (d)" onClick=${() => look('duplicates')}>Duplicates</button>
        <button type="button" title="Keys (?)" aria-label="Keys" onClick=${() => set({ dialog: 'help' })}>?</button>
      </nav>
    </header>
    <aside class="side" aria-label="Narrow">
      <${Thresholds} thresholds=${facts.thresholds} ask=${ask} answer=${answer} onAsk=${go} />
      <${Facets} facts=${facts} answer=${answer} ask=${ask} compiled=${compiled} onAsk=${go} />
    </aside>
    <main>
      <${OrderBar} ask=${ask} side=${side} onAsk=${go} onSide=${setSide}>
        <${Count} answer=${answer} busy=${busy} facts=${facts} />
        ${answer?.facts.notes.map((note) => html`<span class="note small" key=${note}>${note}</span>`)}
        <button type="button" class="plain" disabled=${!answer} onClick=${() => set({ dialog: 'save' })}>Save…</button>
      <//>
      ${state.trouble && html`<p class="problem trouble" role="alert">${state.trouble.message}
        <button type="button" onClick=${() => { set({ trouble: null }); grid.current.show(answer, { stay: true }); }}>Try again</button></p>`}
      <${GridPane} answer=${answer} side=${side} marks=${marks} on=${on} grid=${grid} />
      ${answer?.count === 0 && html`<p class="nothing quiet">No image fits.</p>`}
      <${MarksBar} marks=${marks} onSave=${() => set({ dialog: 'save' })} />
    </main>
    ${view.name === 'image' && html`<${Detail} id=${view.value} ask=${ask} facts=${facts} marks=${marks} on=${{
      close: () => look(''), closely: () => set({ closely: true }), look: (id) => look('image', id),
      narrow: (change) => go(change(ask, compiled)),
    }} />`}
    ${view.name === 'duplicates' && html`<${Duplicates} ask=${ask} count=${answer?.count} job=${view.value}
      onJob=${(job) => look('duplicates', job, { instead: true })} onClose=${() => look('')} />`}
    ${view.name === 'image' && state.closely && html`<${Closely} id=${view.value} onClose=${() => set({ closely: false })} />`}
    <${Dialogs} shown=${state.dialog} answer=${answer} marks=${marks} grid=${grid} onAsk=${go}
      onClose=${() => set({ dialog: '' })} onSaved=${onStale} />
  </div>`;
}

function App() {
  const [turn, again] = useReducer((count) => count + 1, 0);
  const { value: facts, error } = useLoaded(() => api.store(), [turn], { keep: true });
  if (error) return html`<main><h1>No store</h1><p class="problem">${error.message}</p></main>`;
  return facts && html`<${Page} facts=${facts} onStale=${again} />`;
}

render(html`<${App} />`, document.getElementById('app'));
