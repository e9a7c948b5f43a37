// One image beside the grid: what it is, what the tagger saw, what is like it, where it lies.
import { html, useEffect, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { CopyButton } from './copy.js';
import { useLoaded } from './hooks.js';
import { Copies, Likeness } from './likeness.js';
import { ScoreBar, Tags } from './tags.js';
import { fileSize, spaced } from './text.js';
import { Zoom, ZoomPane } from './zoom.js';

/** The picture, its thumbnail until it is there, and the reason where it cannot be shown; made anew for each image. */
function Picture({ id, image, onClose }) {
  const [state, setState] = useState('loading');
  const [reason, setReason] = useState('');
  const failed = async () => {
    setState('broken');
    const why = await api.whyNot(api.picture(id)).catch((error) => error.message);
    setReason(why || 'the browser cannot show this picture');
  };
  const shape = image ? { aspectRatio: `${image.width} / ${image.height}` } : {};
  return html`<div class=${`picture ${state}`} style=${shape}>
    <img class="under" src=${api.thumbnail(id)} alt="" />
    <img class="over" src=${api.picture(id)} alt=${image?.files[0] ?? ''}
      onLoad=${() => setState('ready')} onError=${failed} onClick=${onClose} />
    ${reason && html`<p class="problem reason">Cannot be shown: ${reason}</p>`}
  </div>`;
}

function Facts({ image }) {
  const facts = [
    `${image.width} × ${image.height}`, image.format, fileSize(image.size),
    image.frames > 1 && `${image.frames} frames`,
  ].filter(Boolean);
  return html`<p class="facts">${facts.join(' · ')}</p>
    ${image.character && html`<p class="character">${spaced(image.character)}
      <span class="quiet number">${image.character_score?.toFixed(2) ?? ''}</span></p>`}`;
}

function Files({ image }) {
  return html`<section class="files"><h3>${image.files.length > 1 ? `${image.files.length} copies, byte for byte` : 'File'}</h3>
    <ul>${image.files.map((file) => html`<li key=${file}><code class="path">${file}</code>
      <${CopyButton} text=${file} label="Copy path" /></li>`)}</ul>
    <p class="small quiet"><code>${image.content_id}</code> <${CopyButton} text=${image.content_id} label="Copy id" /></p>
  </section>`;
}

function Ratings({ image }) {
  const scores = Object.entries(image.rating_scores ?? {});
  if (!scores.length) return null;
  return html`<section class="ratings"><h3>Rating <span class="quiet">${image.rating}</span></h3>
    <ul>${scores.map(([name, score]) => html`<li key=${name} class="tag"><span class="name">${name}</span>
      <${ScoreBar} score=${score} /><span class="number">${score.toFixed(2)}</span></li>`)}</ul></section>`;
}

function Columns({ image }) {
  const columns = Object.entries(image.columns ?? {});
  if (!columns.length) return null;
  return html`<section class="own"><h3>Columns</h3><dl>${columns.map(([name, text]) => html`
    <div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}</dl></section>`;
}

function Buttons({ id, marks, onClose, onClosely }) {
  const [, turn] = useState(0);
  useEffect(() => {
    const heard = () => turn((count) => count + 1);
    marks.addEventListener('change', heard);
    return () => marks.removeEventListener('change', heard);
  }, [marks]);
  return html`<div class="buttons">
    <button type="button" aria-pressed=${marks.of(id) === 'selected'} title="s"
      onClick=${() => marks.toggle(id, 'selected')}>Select</button>
    <button type="button" aria-pressed=${marks.of(id) === 'excluded'} title="x"
      onClick=${() => marks.toggle(id, 'excluded')}>Exclude</button>
    <button type="button" title="z" onClick=${onClosely}>Look closely</button>
    <button type="button" class="close" title="Close (Escape)" aria-label="Close" onClick=${onClose}>×</button>
  </div>`;
}

/** The image `id`; all it loads is dropped when another one takes its place. */
export function Detail({ id, ask, facts, marks, on }) {
  const thresholds = {
    general: Number(ask.threshold ?? facts.thresholds.general),
    character: Number(ask.character_threshold ?? facts.thresholds.character),
  };
  const { value: image, error } = useLoaded(
    (signal) => api.image(id, ask, signal), [id, ask.threshold, ask.character_threshold]);
  const isHere = image?.content_id === id;
  return html`<aside class="detail" aria-label="Image" data-image=${isHere ? id : ''}>
    <${Buttons} id=${id} marks=${marks} onClose=${on.close} onClosely=${on.closely} />
    <${Picture} key=${`picture ${id}`} id=${id} image=${isHere ? image : null} onClose=${on.closely} />
    ${error && html`<p class="problem">${error.message}</p>`}
    ${isHere && html`<${Facts} image=${image} /><${Files} image=${image} />
      <${Tags} key=${id} image=${image} thresholds=${thresholds} onAsk=${on.narrow} />
      <${Ratings} image=${image} /><${Columns} image=${image} />`}
    <${Copies} key=${`copies ${id}`} id=${id} onLook=${on.look} />
    <${Likeness} id=${id} ask=${ask} sets=${facts.features} onLook=${on.look} />
  </aside>`;
}

/** The image `id` over the whole page. */
export function Closely({ id, onClose }) {
  const [zoom] = useState(() => new Zoom());
  useEffect(() => zoom.reset(), [id]);
  useEffect(() => {
    const key = (event) => {
      const does = { '+': () => zoom.by(1.5), '-': () => zoom.by(1 / 1.5), 0: () => zoom.reset(), z: onClose, Escape: onClose }[event.key];
      if (does) { does(); event.stopPropagation(); event.preventDefault(); }
    };
    window.addEventListener('keydown', key, true);
    return () => window.removeEventListener('keydown', key, true);
  }, []);
  return html`<div class="closely" role="dialog" aria-label="Image, closely">
    <${ZoomPane} id=${id} zoom=${zoom} />
    <button type="button" class="close" aria-label="Close" onClick=${onClose}>×</button>
  </div>`;
}
