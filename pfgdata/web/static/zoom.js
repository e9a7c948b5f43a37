// Pictures looked at closely: wheel or + and - to zoom, drag to move, and the same place in all panes that share a zoom.
// A place is a fraction of the picture, so two sizes of one picture show the same detail.
import { html, useEffect, useRef } from './vendor/htm-preact.js';
import { picture } from './api.js';

const MOST = 40;

/** What panes share: `scale` (1 fits the pane) and the fraction of the picture at the pane's centre. */
export class Zoom extends EventTarget {
  constructor() {
    super();
    this.reset();
  }

  reset() { this.#set(1, 0.5, 0.5); }

  /** Zoom by `factor` and keep the point (`x`, `y`), in fractions of the picture from its centre place, where it is. */
  by(factor, x = this.x, y = this.y) {
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const rest = this.scale / scale;
    this.#set(scale, x + (this.x - x) * rest, y + (this.y - y) * rest);
  }

  move(x, y) { this.#set(this.scale, this.x + x, this.y + y); }

  #set(scale, x, y) {
    const slack = 0.5 - 0.5 / scale; // the picture never leaves the pane
    const within = (value) => Math.min(0.5 + slack, Math.max(0.5 - slack, value));
    Object.assign(this, { scale, x: within(x), y: within(y) });
    this.dispatchEvent(new Event('change'));
  }
}

function fitted(image, pane) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(pane.clientWidth / (width || 1), pane.clientHeight / (height || 1));
  return [width * scale, height * scale];
}

function place(image, pane, zoom) {
  const [width, height] = fitted(image, pane);
  const { scale } = zoom;
  image.style.width = `${width * scale}px`;
  image.style.height = `${height * scale}px`;
  image.style.left = `${pane.clientWidth / 2 - zoom.x * width * scale}px`;
  image.style.top = `${pane.clientHeight / 2 - zoom.y * height * scale}px`;
  image.style.imageRendering = width * scale > 2 * image.naturalWidth ? 'pixelated' : 'auto';
}

function listenTo(pane, image, zoom) {
  const turn = (event) => {
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    const [width, height] = fitted(image, pane);
    const x = zoom.x + (event.clientX - box.left - box.width / 2) / (width * zoom.scale);
    const y = zoom.y + (event.clientY - box.top - box.height / 2) / (height * zoom.scale);
    zoom.by(1.0015 ** -event.deltaY, x, y);
  };
  const drag = (event) => {
    if (!(event.buttons & 1)) return;
    const [width, height] = fitted(image, pane);
    zoom.move(-event.movementX / (width * zoom.scale), -event.movementY / (height * zoom.scale));
  };
  const draw = () => place(image, pane, zoom);
  const press = (event) => pane.setPointerCapture(event.pointerId);
  const watch = new ResizeObserver(draw);
  watch.observe(pane);
  zoom.addEventListener('change', draw);
  image.addEventListener('load', draw);
  pane.addEventListener('wheel', turn, { passive: false });
  pane.addEventListener('pointermove', drag);
  pane.addEventListener('pointerdown', press);
  return () => {
    watch.disconnect();
    zoom.removeEventListener('change', draw);
    image.removeEventListener('load', draw);
    for (const [name, heard] of [['wheel', turn], ['pointermove', drag], ['pointerdown', press]]) {
      pane.removeEventListener(name, heard);
    }
  };
}

/** The picture `id` in a pane that `zoom` moves. */
export function ZoomPane({ id, zoom, hidden = false }) {
  const pane = useRef(null);
  const image = useRef(null);
  useEffect(() => listenTo(pane.current, image.current, zoom), [zoom]);
  return html`<div class=${`zoom ${hidden ? 'out' : ''}`} ref=${pane} data-image=${id}>
    <img ref=${image} src=${picture(id)} alt="" draggable=${false} /></div>`;
}
