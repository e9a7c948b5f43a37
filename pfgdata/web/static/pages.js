// The rows of an answer that were fetched: pages of 256, the last used kept, so memory does not grow with the scrolling.

export const PAGE = 256; // rows a request; the server gives at most 512
const KEPT = 64; // pages: 16,384 rows, some 3 MB

/** Rows of one answer, fetched by the page. */
export class Pages {
  constructor(answer) {
    this.answer = answer;
    this.pages = new Map(); // first row -> rows, the last used last
  }

  get count() { return this.answer.count; }

  /** Row `index` as `[content_id, width, height]`, or undefined where it is not here yet. */
  row(index) {
    const start = index - (index % PAGE);
    const page = this.pages.get(start);
    if (!page) return undefined;
    this.pages.delete(start);
    this.pages.set(start, page);
    return page[index - start];
  }

  /** The starts of the pages that rows `first` to `last` lie in and that are not here, in that order. */
  missing(first, last) {
    const starts = [];
    for (let start = first - (first % PAGE); start <= last && start < this.count; start += PAGE) {
      if (!this.pages.has(start)) starts.push(start);
    }
    return starts;
  }

  async fetch(start, signal) {
    const rows = await this.answer.rows(start, PAGE, signal);
    this.pages.set(start, rows);
    for (const old of this.pages.keys()) {
      if (this.pages.size <= KEPT) break;
      this.pages.delete(old);
    }
  }

  /** Row `index`, fetched if need be. */
  async need(index, signal) {
    const known = this.row(index);
    if (known) return known;
    await this.fetch(index - (index % PAGE), signal);
    return this.row(index);
  }
}
