// Order, sample and limit of a question, and the size of the thumbnails: what stands above the grid.
import { html, useEffect, useState } from './vendor/htm-preact.js';

const ORDERS = [['', 'path'], ['-width', 'widest'], ['-height', 'tallest'], ['-size', 'largest files'],
  ['-character_score', 'surest character'], ['random()', 'by chance']];

function Field({ name, label, ask, onAsk, ...rest }) {
  const [text, setText] = useState(ask[name] ?? '');
  useEffect(() => setText(ask[name] ?? ''), [ask[name]]);
  const done = () => onAsk({ ...ask, [name]: text.trim() });
  return html`<label>${label}<input name=${name} value=${text} size="6" autocomplete="off" ...${rest}
    onInput=${(event) => setText(event.target.value)} onChange=${done} /></label>`;
}

/** The line above the grid. */
export function OrderBar({ ask, side, onAsk, onSide, children }) {
  const [more, setMore] = useState(Boolean(ask.sample || ask.limit));
  const known = ORDERS.some(([order]) => order === (ask.order ?? ''));
  return html`<div class="orderbar">
    ${children}
    <label>Order<select name="order" value=${ask.order ?? ''}
      onChange=${(event) => onAsk({ ...ask, order: event.target.value })}>
      ${ORDERS.map(([order, name]) => html`<option key=${order} value=${order}>${name}</option>`)}
      ${!known && html`<option value=${ask.order}>${ask.order}</option>`}
    </select></label>
    ${more ? html`
      <${Field} name="order" label="by" ask=${ask} onAsk=${onAsk} placeholder="-score('smile')" size="14" />
      <${Field} name="sample" label="Sample" ask=${ask} onAsk=${onAsk} inputmode="numeric" placeholder="all" />
      <${Field} name="seed" label="Seed" ask=${ask} onAsk=${onAsk} inputmode="numeric" placeholder="0" />
      <${Field} name="limit" label="Limit" ask=${ask} onAsk=${onAsk} inputmode="numeric" placeholder="none" />`
    : html`<button type="button" class="plain" onClick=${() => setMore(true)}>Sample…</button>`}
    <label class="side" title="Size of the thumbnails"><span class="unseen">Thumbnails</span>
      <input type="range" min="96" max="256" step="16" value=${side}
      onInput=${(event) => onSide(Number(event.target.value))} /></label>
  </div>`;
}
