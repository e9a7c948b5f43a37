// A guide from the store: a question by tags or by a condition, small pictures, a click takes one.

import { get, post } from "/static/api.js";
import { h, setText, toast } from "/static/dom.js";

export class StorePicker {
  constructor({ name, take }) {
    this.take = take;
    this.turn = 0;
    this.asked = null; // the question whose images are shown
    this.language = h("select", { "aria-label": "language" }, h("option", { value: "tags" }, "tags"), h("option", { value: "where" }, "condition"));
    this.text = h("input", { type: "search", placeholder: "1girl smile -hat", "aria-label": "question", spellcheck: false });
    this.language.addEventListener("change", () => {
      this.text.placeholder = this.language.value === "tags" ? "1girl smile -hat" : "has('smile') and width >= 512";
    });
    this.count = h("p.quiet.small", { role: "status" });
    this.grid = h("div.store-grid");
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.search(this.start + 60, this.asked) }, "More");
    const form = h("form.row", {}, this.language, this.text, h("button.main", { type: "submit" }, "Search"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(0);
    });
    this.dialog = h("dialog.store", { "aria-label": "A guide from the store" },
      h("div.row.store-head", {}, h("h2", {}, `A guide from ${name}`),
        h("button", { type: "button", onclick: () => this.dialog.close() }, "Done")),
      form, this.count, this.grid, this.more);
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    document.body.append(this.dialog);
  }

  open() {
    this.dialog.showModal();
    this.text.focus();
    if (!this.grid.firstChild) this.search(0);
  }

  /** Show images of a question from the place `start` on: of what stands in the field, or of what was `asked`. */
  async search(start, asked = { [this.language.value]: this.text.value }) {
    const turn = (this.turn += 1);
    this.more.disabled = true;
    let found;
    try {
      found = await get(`/api/store?${new URLSearchParams({ ...asked, start })}`);
    } catch (problem) {
      if (turn !== this.turn) return;
      this.more.disabled = false;
      this.count.className = "problem small";
      setText(this.count, problem.message);
      return;
    }
    if (turn !== this.turn) return; // a later question has been asked
    this.more.disabled = false;
    Object.assign(this, { start, asked });
    this.count.className = "quiet small";
    const cut = found.reach < found.count ? `, of which the first ${found.reach.toLocaleString("en")} are shown` : "";
    setText(this.count, [`${found.count.toLocaleString("en")} images${cut}`, ...found.notes].join(" · "));
    const tiles = found.images.map((image) =>
      h("button.tile", { type: "button", title: image.file, onclick: () => this.pick(image) },
        h("img", { src: `/thumb/${image.id}.jpg`, alt: image.file, loading: "lazy" })));
    if (start) this.grid.append(...tiles);
    else this.grid.replaceChildren(...tiles);
    this.more.hidden = start + found.images.length >= found.reach;
  }

  async pick(image) {
    await this.take(async () => (await post("/api/store/guides", { id: image.id })).id, image.file);
    toast(`${image.file} is a guide now`);
  }
}
