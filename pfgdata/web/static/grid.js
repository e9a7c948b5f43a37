// The grid: any number of thumbnails in a few hundred nodes, fetched for what is seen and one page ahead.
// Only what the eye may meet next is asked for; what was scrolled past is aborted by the gate.
import { Cell } from './cells.js';
import { Geometry } from './geometry.js';
import { Pages } from './pages.js';

const LAND = 90; // ms without a jump before anything is fetched: a dragged scrollbar passes thousands of rows
const RANGE = 20_000; // images that one Shift-click selects
const AGAIN = 3000; // ms before a picture that did not come is asked for once more
const REST = 150; // ms without scrolling before the scrollbar is put right

/** Shows an answer in `host`, a scrolling element; `on` hears `cursor(index)`, `open(index)`, `jump(index or -1)`, `trouble(error)`. */
export class Grid {
  constructor(host, { gate, marks, on }) {
    Object.assign(this, { host, gate, marks, on, side: 160, cursor: 0, pages: null, ahead: 1, frame: 0, landing: 0, resting: 0 });
    this.geometry = new Geometry();
    this.cells = new Map(); // row -> Cell
    this.free = [];
    this.spacer = document.createElement('div');
    this.spacer.className = 'spacer';
    host.append(this.spacer);
    host.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    host.addEventListener('click', (event) => this.#clicked(event));
    new ResizeObserver(() => this.#resized()).observe(host);
    marks.addEventListener('change', () => { for (const cell of this.cells.values()) cell.mark(marks.of(cell.id)); });
  }

  /** Show `answer` from its first row on, or from the row that was first seen if `stay`. */
  show(answer, { stay = false } = {}) {
    this.#empty();
    this.pages = answer && new Pages(answer);
    if (!stay) { this.geometry.top = 0; this.cursor = 0; }
    this.cursor = Math.min(this.cursor, Math.max(0, (answer?.count ?? 0) - 1));
    this.#measure();
  }

  /** Make cells of about `side` px. */
  resize(side) {
    this.side = side;
    this.#resized();
  }

  /** Put the cursor on row `index` and bring it into view. */
  moveTo(index, { first = false } = {}) {
    if (!this.pages?.count) return;
    this.cursor = Math.min(Math.max(0, index), this.pages.count - 1);
    if (first) this.geometry.start(this.cursor);
    else this.geometry.reveal(this.cursor);
    this.#settle();
    this.#draw();
    this.on.cursor(this.cursor);
  }

  moveBy(steps) { this.moveTo(this.cursor + steps); }
  get columns() { return this.geometry.columns; }
  get linesSeen() { return Math.max(1, Math.floor(this.geometry.height / this.geometry.line)); }

  /** The content id of row `index`, fetched if need be. */
  async idOf(index) { return (await this.pages?.need(index))?.[0]; }

  #measure() {
    const { clientWidth: width, clientHeight: height } = this.host;
    this.geometry.measure({ count: this.pages?.count ?? 0, side: this.side, width, height });
    this.spacer.style.height = `${this.geometry.spacer}px`;
    this.host.style.setProperty('--cell', `${this.geometry.cell}px`);
    this.#settle();
    this.#draw();
  }

  #resized() {
    if (!this.host.clientWidth) return;
    const [first, last] = this.geometry.rows();
    const wasSeen = this.cursor >= first && this.cursor <= last;
    const before = this.geometry.columns;
    const top = this.geometry.top;
    const { cell } = this.geometry;
    this.geometry.measure({
      count: this.pages?.count ?? 0, side: this.side, width: this.host.clientWidth, height: this.host.clientHeight,
    });
    if (this.geometry.columns !== before || this.geometry.cell !== cell) this.geometry.start(first);
    else this.geometry.top = top;
    if (wasSeen) this.geometry.reveal(this.cursor);
    this.#measure();
  }

  // The scrollbar says again where we are: after small steps through a list longer than the spacer it does not.
  #settle() {
    this.host.scrollTop = this.geometry.settled;
    this.geometry.scroll = this.host.scrollTop;
  }

  #scrolled() {
    const from = this.geometry.top;
    const jump = this.geometry.scrolled(this.host.scrollTop);
    if (this.geometry.top !== from) this.ahead = this.geometry.top > from ? 1 : -1;
    if (this.geometry.hasDrifted && !jump) this.#settle();
    if (jump) this.#jumped();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { this.#settle(); this.#draw(); }, REST);
    this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.#draw(); });
  }

  #jumped() {
    this.gate.hold(true);
    this.on.jump(this.geometry.rows()[0]);
    clearTimeout(this.landing);
    this.landing = setTimeout(() => { this.gate.hold(false); this.on.jump(-1); }, LAND);
  }

  #clicked(event) {
    const node = event.target.closest('.cell');
    if (!node?.dataset.image) return;
    this.host.focus({ preventScroll: true });
    const { image: id } = node.dataset;
    const from = this.cursor;
    this.moveTo(Number(node.dataset.row));
    if (event.target.closest('.pick') || event.ctrlKey || event.metaKey) this.marks.toggle(id, 'selected');
    else if (event.target.closest('.drop')) this.marks.toggle(id, 'excluded');
    else if (event.shiftKey) this.#selectRange(from, this.cursor);
    else this.on.open(this.cursor);
  }

  async #selectRange(one, two) {
    const { pages } = this; // of the answer that was clicked: another one may come while rows are fetched
    const { count } = pages;
    const [first, last] = [Math.min(one, two), Math.max(one, two)];
    const ids = [];
    try {
      if (last - first >= RANGE) throw new Error(`At most ${RANGE} images at once: narrow the query instead.`);
      for (let index = first; index <= last; index += 1) {
        const row = await pages.need(index);
        if (!row || pages.count !== count) throw new Error('The images are others now: select them once more.');
        ids.push(row[0]);
      }
      this.marks.select(ids);
    } catch (error) {
      this.on.trouble(error);
    }
  }

  #draw() {
    if (!this.pages) return;
    const { height } = this.geometry;
    const [first, last] = this.ahead > 0 ? this.geometry.rows(height / 4, height) : this.geometry.rows(height, height / 4);
    for (const [index, cell] of this.cells) if (index < first || index > last) this.#release(index, cell);
    for (let index = first; index <= last; index += 1) this.#place(index);
    this.host.setAttribute('aria-activedescendant', `row-${this.cursor}`);
    this.#want(first, last);
  }

  #place(index) {
    let cell = this.cells.get(index);
    if (!cell) {
      cell = this.free.pop() ?? new Cell();
      cell.place(index, this.pages.count);
      this.cells.set(index, cell);
      this.spacer.append(cell.node);
    }
    const [x, y] = this.geometry.place(index);
    if (cell.x !== x) { cell.x = x; cell.node.style.left = `${x}px`; }
    if (cell.y !== y) { cell.y = y; cell.node.style.top = `${y}px`; }
    cell.node.classList.toggle('cursor', index === this.cursor);
    const row = cell.id ? null : this.pages.row(index);
    if (row) cell.identify(row[0], this.marks.of(row[0]));
  }

  #release(index, cell) {
    cell.clear();
    cell.node.remove();
    this.cells.delete(index);
    this.free.push(cell);
  }

  #empty() {
    this.gate.want([]);
    for (const [index, cell] of this.cells) this.#release(index, cell);
    this.free.length = Math.min(this.free.length, 300);
  }

  // First the rows of what is seen, then its pictures from the top, then the page ahead.
  #want(first, last) {
    const [seenFirst, seenLast] = this.geometry.rows();
    const ahead = this.ahead > 0 ? [seenLast + 1, last] : [first, seenFirst - 1];
    this.gate.want([
      ...this.#pageJobs(seenFirst, seenLast), ...this.#imageJobs(seenFirst, seenLast),
      ...this.#pageJobs(...ahead), ...this.#imageJobs(...ahead),
    ]);
  }

  #pageJobs(first, last) {
    const { pages } = this;
    return pages.missing(first, last).map((start) => ({
      key: `rows ${start}`,
      start: (signal) => pages.fetch(start, signal).then(
        () => { if (pages === this.pages) this.#draw(); },
        (error) => { if (!signal.aborted) this.on.trouble(error); },
      ),
    }));
  }

  #imageJobs(first, last) {
    const jobs = [];
    for (let index = first; index <= last; index += 1) {
      const cell = this.cells.get(index);
      if (cell?.id && !cell.shown) {
        jobs.push({ key: `${index} ${cell.id} ${cell.tries}`, start: (signal) => this.#show(cell, signal) });
      }
    }
    return jobs;
  }

  async #show(cell, signal) {
    const { id } = cell;
    if ((await cell.show(signal)) !== 'broken' || cell.tries) return;
    setTimeout(() => { if (cell.id === id && cell.shown) { cell.again(); this.#draw(); } }, AGAIN);
  }
}
