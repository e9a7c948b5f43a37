// One picture large, beside its guide, with all that made it; arrows go through the pictures of its drawing.

import { copy, h } from "/static/dom.js";

export class Viewer {
  constructor({ reuse }) {
    this.reuse = reuse;
    this.body = h("div.viewer-body");
    this.dialog = h("dialog.viewer", { "aria-label": "Picture" }, this.body);
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) {
        event.preventDefault();
        this.go(by);
      }
    });
    document.body.append(this.dialog);
  }

  show(drawing, index) {
    this.drawing = drawing;
    this.index = index;
    this.fill();
    if (!this.dialog.open) this.dialog.showModal();
  }

  go(by) {
    const count = this.drawing.pictures.length;
    this.index = (this.index + by + count) % count;
    this.fill();
  }

  fill() {
    const { guide, settings, pictures, command } = this.drawing;
    const picture = pictures[this.index];
    const path = `/pictures/${encodeURIComponent(picture.name)}`;
    const facts = {
      seed: picture.seed, guidance: settings.guidance_scale, "PFG scale": settings.pfg_scale, steps: settings.num_inference_steps,
      ...(settings.guidance_rescale && { rescale: settings.guidance_rescale }),
      ...(settings.width && { size: `${settings.width} × ${settings.height}` }),
      ...(settings.prompt !== null && { prompt: settings.prompt || "(none)" }),
      ...(settings.negative_prompt && { negative: settings.negative_prompt }),
    };
    this.body.replaceChildren(
      h("figure.large", {}, h("img", { src: path, alt: `picture of ${guide.name}` })),
      h("aside.beside", {},
        h("figure", {}, h("img", { src: `/guides/${guide.id}.jpg`, alt: "the guide" }), h("figcaption", {}, `guide: ${guide.name}`)),
        h("dl.facts", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
        h("pre.command", {}, command),
        h("div.row", {},
          h("button", { type: "button", onclick: () => copy(command, "command") }, "Copy command"),
          h("button", { type: "button", onclick: () => { this.reuse(this.drawing); this.dialog.close(); } }, "Use settings"),
          h("a.button", { href: path, download: picture.name }, "Save PNG")),
        h("div.row.paging", {},
          h("button", { type: "button", onclick: () => this.go(-1), "aria-label": "previous" }, "←"),
          h("span.quiet.small", {}, `${this.index + 1} of ${pictures.length}`),
          h("button", { type: "button", onclick: () => this.go(1), "aria-label": "next" }, "→"),
          h("button.close-viewer", { type: "button", autofocus: true, onclick: () => this.dialog.close() }, "Close"))),
    );
  }
}
