// "More like this": the nearest images by their features, in the whole store or in the shown ones; and its copies.
import { html, useEffect, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { useLoaded } from './hooks.js';
import { spaced } from './text.js';

const MANY = 24;

function Like({ like, label, onLook }) {
  const shared = (like.shared_tags ?? []).slice(0, 8).map(spaced).join(', ');
  return html`<li><button type="button" data-image=${like.content_id} title=${`${like.file}\n${shared}`}
      onClick=${() => onLook(like.content_id)}>
    <img src=${api.thumbnail(like.content_id)} alt=${like.file} loading="lazy" />
    <span class="number small">${label}</span>
  </button></li>`;
}

/** The neighbours of image `id`. */
export function Likeness({ id, ask, sets, onLook }) {
  const [within, setWithin] = useState(false);
  const [features, setFeatures] = useState('');
  const isNarrow = Boolean(ask.where || ask.tags);
  const { value, error } = useLoaded(
    (signal) => api.similar(id, MANY, { ...(within ? ask : {}), features }, signal),
    [id, features, within, within && JSON.stringify(ask)]);
  useEffect(() => { if (!isNarrow) setWithin(false); }, [isNarrow]);
  const likes = value?.results.filter((like) => like.content_id !== id) ?? [];
  return html`<section class="likeness" data-of=${value ? id : ''}><h3>More like this
      ${isNarrow && html`<label class="small quiet"><input type="checkbox" checked=${within}
        onChange=${(event) => setWithin(event.target.checked)} /> only of the shown</label>`}
      ${sets?.length > 1 && html`<label class="small quiet">by <select aria-label="features" value=${features}
        onChange=${(event) => setFeatures(event.target.value)}>
        ${sets.map((label, place) => html`<option key=${label} value=${place ? label : ''}>${label}</option>`)}
      </select></label>`}</h3>
    ${error && html`<p class="problem small">${error.message}</p>`}
    ${!value && !error && html`<p class="quiet small">looking…</p>`}
    ${value && likes.length === 0 && html`<p class="quiet small">nothing else</p>`}
    <ul class="likes">${likes.map((like) => html`<${Like} key=${like.content_id} like=${like}
      label=${like.score.toFixed(3)} onLook=${onLook} />`)}</ul>
  </section>`;
}

/** What is the same picture as image `id`, or nearly; nothing where there is none. */
export function Copies({ id, onLook }) {
  const { value } = useLoaded((signal) => api.copies(id, signal), [id]);
  if (!value?.results.length) return null;
  return html`<section class="copies" data-of=${id}><h3>Copies and variants</h3>
    <ul class="likes">${value.results.map((like) => html`<${Like} key=${like.content_id} like=${like}
      label=${like.kind} onLook=${onLook} />`)}</ul>
  </section>`;
}
