// Where the lines of a grid stand, for lists longer than a browser can lay out.
// Browsers cap the height of an element at some 17 to 33 million px, so the spacer is at most 7 million; beyond that a
// place on the scrollbar is mapped to rows by ratio, while small steps (wheel, arrows) still move by just their pixels.

export const SPACER = 7_000_000; // px
export const GAP = 6; // px between cells
const PAD = 10; // px around them

/** The measures of one grid; `top` is the place in the whole list, in px, whatever the spacer can show of it. */
export class Geometry {
  constructor() {
    Object.assign(this, { count: 0, columns: 1, cell: 160, width: 0, height: 0, top: 0, scroll: 0 });
  }

  /** `count` cells of about `side` px in a view of `width` x `height`. */
  measure({ count, side, width, height }) {
    const room = Math.max(width - 2 * PAD, side);
    this.columns = Math.max(1, Math.round((room + GAP) / (side + GAP)));
    this.cell = Math.floor((room + GAP) / this.columns) - GAP;
    Object.assign(this, { count, width, height });
    this.top = this.#within(this.top);
  }

  get line() { return this.cell + GAP; }
  get lines() { return Math.ceil(this.count / this.columns); }
  get whole() { return this.lines * this.line - (this.lines ? GAP : 0) + 2 * PAD; }
  get spacer() { return Math.min(this.whole, SPACER); }
  get #last() { return Math.max(0, this.whole - this.height); }
  get #lastScroll() { return Math.max(0, this.spacer - this.height); }
  get isMapped() { return this.whole > SPACER; }

  #within(top) { return Math.min(Math.max(0, top), this.#last); }

  /** The scroll offset that stands for `top`. */
  get settled() {
    if (!this.isMapped) return Math.round(this.top);
    return Math.round((this.top / this.#last) * this.#lastScroll);
  }

  /** The view was scrolled to `scroll`; whether that was a jump. */
  scrolled(scroll) {
    const step = scroll - this.scroll;
    const jump = Math.abs(step) > this.height * 1.5;
    this.scroll = scroll;
    if (!this.isMapped) this.top = scroll;
    else if (scroll <= 0) this.top = 0;
    else if (scroll >= this.#lastScroll - 1) this.top = this.#last;
    else if (jump) this.top = this.#within((scroll / this.#lastScroll) * this.#last);
    else this.top = this.#within(this.top + step);
    return jump;
  }

  /** Whether the scrollbar says something else than what is seen, so much that an end would come too soon. */
  get hasDrifted() { return this.isMapped && Math.abs(this.settled - this.scroll) > 3 * this.height; }

  /** Move so far that row `index` is seen whole. */
  reveal(index) {
    const y = PAD + Math.floor(index / this.columns) * this.line;
    if (y - GAP < this.top) this.top = this.#within(y - PAD);
    else if (y + this.line > this.top + this.height) this.top = this.#within(y + this.cell + PAD - this.height);
  }

  /** Put row `index` first. */
  start(index) { this.top = this.#within(Math.floor(index / this.columns) * this.line); }

  /** The rows seen, `[first, last]`, with `before` and `after` more pixels around. */
  rows(before = 0, after = 0) {
    const first = Math.floor((this.top - PAD - before) / this.line) * this.columns;
    const last = Math.ceil((this.top + this.height - PAD + after) / this.line) * this.columns - 1;
    return [Math.max(0, first), Math.min(this.count - 1, last)];
  }

  /** Where in the spacer row `index` stands now: `[x, y]`. */
  place(index) {
    const x = PAD + (index % this.columns) * this.line;
    const y = PAD + Math.floor(index / this.columns) * this.line;
    return [x, y - Math.round(this.top) + this.scroll];
  }
}
