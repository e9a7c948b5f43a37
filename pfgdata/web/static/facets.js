// Facets: what the shown images have, by how many, each a click that narrows the question to it (or to all else).
import { html, useState } from './vendor/htm-preact.js';
import { lane } from './gate.js';
import { useLoaded } from './hooks.js';
import { canNarrow, holds, narrowed } from './narrow.js';
import { grouped, spaced } from './text.js';

const SHORT = 8; // values shown before "more"
const CLOSED = new Set(['bucket', 'format']); // asked for when a person opens them
const inTurn = lane(2); // so that counting leaves connections to the pictures

function Value({ value, share, on, can, onNarrow }) {
  const label = value.value === null || value.value === undefined ? value.label : spaced(String(value.label));
  return html`<li class="value" aria-current=${on}>
    <button type="button" class="to" title=${value.title ?? value.add ?? ''} disabled=${!can} onClick=${() => onNarrow(value, false)}>
      <span class="bar" style=${{ width: `${share * 100}%` }}></span>
      <span class="label">${label}</span><span class="number">${grouped(value.count)}</span>
    </button>
    <button type="button" class="not" title="All but these" disabled=${!can}
      aria-label=${`All but ${value.label}`} onClick=${() => onNarrow(value, true)}>−</button>
  </li>`;
}

function Values({ facet, ask, compiled, onNarrow }) {
  const [all, setAll] = useState(false);
  const shown = all || facet.kind === 'ranges' ? facet.values : facet.values.slice(0, SHORT);
  const whole = facet.kind === 'ranges' ? Math.max(1, ...facet.values.map((value) => value.count)) : facet.total || 1;
  const rest = facet.values.length - shown.length;
  return html`
    <ul>${shown.map((value) => html`<${Value} key=${value.label} value=${value} share=${Math.min(1, value.count / whole)}
      on=${holds(ask, value.add) || holds(ask, value.add_tag)}
      can=${Boolean(value.add) && canNarrow(ask, { tag: value.add_tag, compiled })} onNarrow=${onNarrow} />`)}</ul>
    ${facet.values.length === 0 && html`<p class="quiet small">none</p>`}
    ${rest > 0 && html`<button type="button" class="more" onClick=${() => setAll(true)}>${rest} more</button>`}
    ${rest <= 0 && Boolean(facet.more) && html`<p class="quiet small">and others, less frequent</p>`}`;
}

function Facet({ name, own, answer, ask, compiled, onNarrow }) {
  const [open, setOpen] = useState(!own && !CLOSED.has(name));
  const { value, error, busy } = useLoaded(
    (signal) => (open && answer ? inTurn(() => answer.facet(name, signal), signal) : null), [answer, open, name], { keep: true });
  return html`<section class="facet" data-facet=${name} data-busy=${String(busy)}>
    <h3><button type="button" aria-expanded=${open} onClick=${() => setOpen(!open)}>${spaced(name)}
      ${open && value?.approximate && html`<span class="approximate"
        title=${`Counted in a sample of ${grouped(value.approximate.sample)} images`}>approximate</span>`}
    </button></h3>
    ${open && error && html`<p class="problem small">${error.message}</p>`}
    ${open && value && html`<${Values} facet=${value} ask=${ask} compiled=${compiled} onNarrow=${onNarrow} />`}
    ${open && answer && !value && !error && html`<p class="quiet small">counting…</p>`}
  </section>`;
}

/** The saved selections: conditions with a name. */
function Selections({ selections, images, ask, onNarrow }) {
  if (!selections.length) return null;
  const values = selections.map(({ name, images: count, expression }) => ({
    label: `@${name}`, value: null, count, add: `@${name}`, add_tag: `@${name}`, title: expression,
  }));
  return html`<section class="facet selections"><h3>Selections</h3>
    <${Values} facet=${{ kind: 'values', values, total: images }} ask=${ask} onNarrow=${onNarrow} /></section>`;
}

/** What narrows the images of `answer`: the store's selections and facets, its own columns closed at first. */
export function Facets({ facts, answer, ask, compiled, onAsk }) {
  const narrow = (value, not) => onAsk(narrowed(ask, {
    sql: value.add, tag: value.add_tag, compiled, not,
  }));
  const own = new Set(facts.columns.filter((column) => column.own).map((column) => column.name));
  return html`<div class="facets">
    <${Selections} selections=${facts.selections} images=${facts.images} ask=${ask} onNarrow=${narrow} />
    ${facts.facets.map(({ name }) => html`<${Facet} key=${name} name=${name} own=${own.has(name)} answer=${answer} ask=${ask}
      compiled=${compiled} onNarrow=${narrow} />`)}</div>`;
}
