// One thumbnail of the grid: a node that is used again and again, and never shows the picture of another row.
import { thumbnail } from './api.js';
import { grouped } from './text.js';

function element(name, className, attributes = {}) {
  const node = document.createElement(name);
  node.className = className;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** A place in the grid. */
export class Cell {
  constructor() {
    this.node = element('div', 'cell', { role: 'option' });
    this.pick = element('button', 'pick', { type: 'button', tabindex: '-1', title: 'Select (s)' });
    this.drop = element('button', 'drop', { type: 'button', tabindex: '-1', title: 'Exclude (x)' });
    this.node.append(this.pick, this.drop);
    this.clear();
  }

  /** Stand for row `index` of `count`; it is not known yet which image that is. */
  place(index, count) {
    this.index = index;
    this.node.id = `row-${index}`;
    this.node.dataset.row = index;
    this.node.setAttribute('aria-posinset', index + 1);
    this.node.setAttribute('aria-setsize', count);
    this.node.setAttribute('aria-label', `image ${grouped(index + 1)}`);
  }

  /** Stand for nothing: the picture is let go, also while it loads. */
  clear() {
    this.stop?.();
    this.image?.remove();
    this.image = null;
    this.id = null;
    this.shown = false;
    this.tries = 0;
    this.node.className = 'cell';
    this.node.removeAttribute('data-image');
    this.node.removeAttribute('aria-selected');
  }

  /** Try once more: a disk may have been away for a moment. */
  again() {
    this.tries += 1;
    this.shown = false;
  }

  /** Be the image `id`, marked or not. */
  identify(id, mark) {
    this.id = id;
    this.node.dataset.image = id;
    this.mark(mark);
  }

  mark(mark) {
    this.node.classList.toggle('selected', mark === 'selected');
    this.node.classList.toggle('excluded', mark === 'excluded');
    this.node.setAttribute('aria-selected', mark === 'selected');
  }

  /** Load and show the thumbnail; settles when it stands there, is broken ("broken"), or `signal` says stop. */
  show(signal) {
    this.image?.remove();
    const image = element('img', 'thumb', { alt: '', draggable: 'false', decoding: 'async' });
    const id = this.id;
    return new Promise((resolve) => {
      const end = (state) => {
        if (this.image === image) {
          this.shown = true;
          for (const one of ['ready', 'broken']) this.node.classList.toggle(one, one === state);
        }
        this.stop = null;
        resolve(state);
      };
      this.stop = () => {
        image.onload = image.onerror = null;
        image.removeAttribute('src'); // ends the request
        image.remove();
        if (this.image === image) this.image = null;
        this.stop = null;
        resolve();
      };
      signal.addEventListener('abort', () => { if (this.image === image) this.stop?.(); }, { once: true });
      image.onload = () => end('ready');
      image.onerror = () => end('broken');
      this.image = image;
      image.src = thumbnail(id);
      this.node.prepend(image);
    });
  }
}
