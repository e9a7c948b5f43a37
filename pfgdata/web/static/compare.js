// Two pictures of a pair: side by side, or one over the other and flicked, at one zoom and place.
import { html, useEffect, useState } from './vendor/htm-preact.js';
import { fileSize } from './text.js';
import { Zoom, ZoomPane } from './zoom.js';

function Side({ letter, image, role }) {
  return html`<figcaption><b>${letter}</b> ${role} <code class="path" title=${image.file}><bdi>${image.file}</bdi></code>
    <span class="quiet number">${image.width} × ${image.height} · ${image.format} · ${fileSize(image.size)}</span></figcaption>`;
}

/** What sets the two apart, in figures. */
function Difference({ member }) {
  const figures = [
    ['kind', member.kind], ['bits', member.bits], ['cosine', member.cosine?.toFixed(4)], ['change', member.change?.toFixed(1)],
    ['tags', Array.isArray(member.tags) ? member.tags.join(', ') : member.tags],
  ].filter(([, value]) => value !== undefined && value !== null && value !== '');
  return html`<p class="difference small">${figures.map(([name, value]) => html`<span key=${name}>
    <span class="quiet">${name}</span> <b>${value}</b></span> `)}</p>`;
}

/** `flick` shows one of both, `second` says which; otherwise both stand side by side. */
export function Compare({ pair, flick, second }) {
  const [zoom] = useState(() => new Zoom());
  const { keep, member } = pair;
  useEffect(() => zoom.reset(), [keep.content_id, member.content_id]);
  return html`<div class=${`compare ${flick ? 'flick' : 'beside'}`} data-second=${String(second)}>
    <div class="panes">
      <figure class=${flick && second ? 'out' : ''}><${Side} letter="A" image=${keep} role="to keep" />
        <${ZoomPane} key=${keep.content_id} id=${keep.content_id} zoom=${zoom} /></figure>
      <figure class=${flick && !second ? 'out' : ''}><${Side} letter="B" image=${member} role=${member.kind} />
        <${ZoomPane} key=${`B ${member.content_id}`} id=${member.content_id} zoom=${zoom} /></figure>
    </div>
    <${Difference} member=${member} />
  </div>`;
}
