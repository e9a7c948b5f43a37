// How many images are selected and excluded, and what to do with them.
import { html, useEffect, useState } from './vendor/htm-preact.js';
import { counted } from './text.js';

/** The bar below the grid; nothing where nothing is marked. */
export function MarksBar({ marks, onSave }) {
  const [sizes, setSizes] = useState([marks.selected.size, marks.excluded.size]);
  useEffect(() => {
    const heard = () => setSizes([marks.selected.size, marks.excluded.size]);
    marks.addEventListener('change', heard);
    return () => marks.removeEventListener('change', heard);
  }, [marks]);
  const [selected, excluded] = sizes;
  if (!selected && !excluded) return null;
  return html`<div class="marksbar" role="status">
    ${selected > 0 && html`<span class="selected"><b>${counted(selected, 'image')}</b> selected</span>`}
    ${excluded > 0 && html`<span class="excluded"><b>${counted(excluded, 'image')}</b> excluded</span>`}
    <button type="button" class="main" onClick=${onSave}>Save as a selection…</button>
    <button type="button" onClick=${() => marks.clear()}>Clear</button>
  </div>`;
}
