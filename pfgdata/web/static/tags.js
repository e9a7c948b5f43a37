// The tags of one image: a bar for each score, a line where it begins to count, a click that asks for that tag.
import { html, useState } from './vendor/htm-preact.js';
import { narrowed, ofTag } from './narrow.js';
import { quoted, spaced } from './text.js';

const SHORT = 30;

/** One score in 0..1 as a bar; `from` is the threshold. */
export function ScoreBar({ score, from }) {
  return html`<span class="score" role="img" aria-label=${score.toFixed(2)}>
    <span class="fill" style=${{ width: `${score * 100}%` }}></span>
    ${from !== undefined && html`<span class="from" style=${{ left: `${from * 100}%` }}></span>`}
  </span>`;
}

function Tag({ tag, from, onAsk }) {
  const narrow = (not) => onAsk((ask, compiled) => narrowed(ask, { ...ofTag(tag.tag), compiled, not }));
  return html`<li class=${`tag kind-${tag.kind} ${tag.counts ? 'counts' : 'below'}`} data-tag=${tag.tag}>
    <button type="button" class="name" title=${`has(${quoted(tag.tag)})`} onClick=${() => narrow(false)}>${spaced(tag.tag)}</button>
    <${ScoreBar} score=${tag.score} from=${from} />
    <span class="number">${tag.score.toFixed(2)}</span>
  </li>`;
}

/** The tags of `image`, characters first; those below the threshold on demand. */
export function Tags({ image, thresholds, onAsk }) {
  const [all, setAll] = useState(false);
  const counting = image.tags.filter((tag) => tag.counts);
  const shown = all ? image.tags : counting.slice(0, SHORT);
  const rest = image.tags.length - shown.length;
  return html`<section class="tags"><h3>Tags <span class="quiet small">${counting.length} count, ${
      image.tags.length - counting.length} below</span></h3>
    <ul>${shown.map((tag) => html`<${Tag} key=${`${tag.kind} ${tag.tag}`} tag=${tag} onAsk=${onAsk}
      from=${tag.kind === 'character' ? thresholds.character : thresholds.general} />`)}</ul>
    ${(rest > 0 || all) && html`<button type="button" class="more" onClick=${() => setAll(!all)}>${
      all ? 'Only those that count' : `${rest} more, down to the store's floor`}</button>`}
  </section>`;
}
