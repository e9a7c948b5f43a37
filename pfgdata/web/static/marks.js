// Which images a person selected or excluded, by content id; kept for the tab, so a reload loses nothing. Each
// store has its own: another one may be served at the same address later.

const KEY = 'pfg-marks';

/** Selected and excluded images: an image is one of both, or neither. */
export class Marks extends EventTarget {
  /** Those of the store at the path `store`. */
  constructor(store, storage = sessionStorage) {
    super();
    this.key = `${KEY} ${store}`;
    this.storage = storage;
    const kept = JSON.parse(storage.getItem(this.key) ?? '{}');
    this.selected = new Set(kept.selected);
    this.excluded = new Set(kept.excluded);
  }

  /** "selected", "excluded" or "". */
  of(id) {
    if (this.selected.has(id)) return 'selected';
    return this.excluded.has(id) ? 'excluded' : '';
  }

  /** Turn `kind` of an image on or off. */
  toggle(id, kind) {
    const on = !this[kind].has(id);
    this.selected.delete(id);
    this.excluded.delete(id);
    if (on) this[kind].add(id);
    this.#changed();
  }

  /** Select all of `ids`. */
  select(ids) {
    for (const id of ids) { this.excluded.delete(id); this.selected.add(id); }
    this.#changed();
  }

  clear() {
    this.selected.clear();
    this.excluded.clear();
    this.#changed();
  }

  #changed() {
    try {
      this.storage.setItem(this.key, JSON.stringify({ selected: [...this.selected], excluded: [...this.excluded] }));
    } catch { /* over the browser's few megabytes: marks then last until the reload */ }
    this.dispatchEvent(new Event('change'));
  }
}
