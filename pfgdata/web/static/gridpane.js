// The grid as a part of the page: mounts it once, tells it of answers and sizes, and says what stands in it.
import { html, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { useLatest } from './hooks.js';
import { Gate } from './gate.js';
import { Grid } from './grid.js';
import { grouped } from './text.js';

/** `grid` is a ref that the grid is put into; `on` hears what happens in it. */
export function GridPane({ answer, side, marks, on, grid }) {
  const host = useRef(null);
  const heard = useLatest(on);
  const [passing, setPassing] = useState(-1);
  useEffect(() => {
    grid.current = new Grid(host.current, {
      gate: new Gate(),
      marks,
      on: {
        cursor: (index) => heard.current.cursor(index),
        open: (index) => heard.current.open(index),
        jump: setPassing,
        trouble: (error) => heard.current.trouble(error),
      },
    });
  }, []);
  useEffect(() => grid.current.resize(side), [side]);
  const shown = useRef(null);
  useEffect(() => {
    if (answer) grid.current.show(answer, { stay: answer === shown.current });
    shown.current = answer;
    heard.current.shown();
  }, [answer, answer?.count]);
  return html`<div class="grid" ref=${host} tabindex="0" role="listbox" aria-label="Images"
    aria-multiselectable="true" data-answer=${answer?.facts.id ?? ''}></div>
    ${passing >= 0 && answer?.count > 1000 && html`<p class="passing number">${grouped(passing + 1)}</p>`}`;
}
