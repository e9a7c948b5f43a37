// Two sliders: from which score on a tag counts. While one is dragged the count follows; the grid does when it is let go.
import { html, useEffect, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { useLoaded, useRested } from './hooks.js';
import { grouped } from './text.js';

const REST = 100; // ms
const KINDS = [['threshold', 'general', 'Tags'], ['character_threshold', 'character', 'Characters']];

function Slider({ name, label, value, floor, usual, onSlide, onDone }) {
  return html`<label class="slider">
    <span>${label}</span>
    <input type="range" name=${name} min=${floor} max="1" step="0.01" value=${value}
      onInput=${(event) => onSlide(name, event.target.value)} onChange=${onDone} />
    <output class="number">${Number(value).toFixed(2)}</output>
    <button type="button" class="reset" title=${`Back to ${usual}`} aria-label=${`${label} back to ${usual}`}
      disabled=${Number(value) === usual} onClick=${() => { onSlide(name, ''); onDone(null, name); }}>↺</button>
  </label>`;
}

/** How many images `ask` has, beside the `shown` ones: grown or shrunk. */
function Growth({ ask, shown }) {
  const rested = useRested(JSON.stringify(ask), REST);
  const { value } = useLoaded((signal) => api.count(JSON.parse(rested), signal), [rested], { keep: true });
  if (!value || shown === undefined) return html`<p class="growth quiet small">…</p>`;
  const more = value.count - shown;
  return html`<p class="growth small" data-count=${value.count}>${grouped(value.count)} images
    <span class=${more < 0 ? 'fewer' : 'further'}> ${more > 0 ? '+' : more < 0 ? '−' : '±'}${grouped(Math.abs(more))}</span></p>`;
}

/** `thresholds` are the store's; `ask` may have its own. */
export function Thresholds({ thresholds, ask, answer, onAsk }) {
  const [slid, setSlid] = useState({});
  useEffect(() => setSlid({}), [ask.threshold, ask.character_threshold]);
  const now = { ...ask, ...slid };
  const done = (_, name) => onAsk(name ? { ...now, [name]: '' } : now);
  return html`<section class="facet thresholds"><h3>Counts from score</h3>
    ${KINDS.map(([name, kind, label]) => html`<${Slider} key=${name} name=${name} label=${label}
      value=${now[name] || thresholds[kind]} floor=${thresholds.floor} usual=${thresholds[kind]}
      onSlide=${(key, value) => setSlid((old) => ({ ...old, [key]: value }))} onDone=${done} />`)}
    ${Object.keys(slid).length > 0 && html`<${Growth} ask=${now} shown=${answer?.count} />`}
  </section>`;
}
