// The settings of a drawing: one field each, and what they say as the server wants it.

import { h, setText } from "/static/dom.js";

export class Settings {
  constructor(form, { about, draw }) {
    this.form = form;
    this.facts = null;
    this.fields = {};
    const from = about.settings;
    this.button = h("button.main.wide", { type: "submit", id: "draw" }, "Draw");
    this.hint = h("p.quiet.small.hint");
    form.append(
      h("h2", {}, "Settings"),
      this.slider("images_per_guide", "Pictures of each guide", { value: from.images_per_guide, min: 1, max: 16, most: about.bounds.images }),
      this.slider("guidance_scale", "Guidance", { value: from.guidance_scale, min: 1, max: 15, step: 0.5, tip: "How strongly pictures follow prompt and guide; 1 is none." }),
      this.slider("pfg_scale", "PFG scale", { value: from.pfg_scale, min: 0, max: 2, step: 0.05, tip: "Multiplies what the guide says." }),
      this.slider("num_inference_steps", "Steps", { value: from.num_inference_steps, min: 1, max: 60, most: 1000 }),
      this.seed(from.seed),
      this.size(about.bounds.side),
      this.text("prompt", "Prompt", "the run's"),
      this.text("negative_prompt", "Negative prompt", "nothing to lead away from"),
      h("details.more", {}, h("summary", {}, "More"),
        this.slider("guidance_rescale", "Rescale", { value: from.guidance_rescale, min: 0, max: 1, step: 0.05, tip: "Gives back a share of the contrast that guidance adds; 0 is none." }),
        this.slider("batch_size", "Pictures at once", { value: from.batch_size, min: 1, max: 16, tip: "Fewer take less memory. Pictures differ in their last bits." }),
        this.pad(),
        this.bare()),
      h("div.go", {}, this.button, this.hint),
    );
    this.sending = false;
    this.button.addEventListener("click", (event) => event.detail > 1 && event.preventDefault()); // of a double click
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (this.sending || !form.reportValidity()) return;
      this.sending = true;
      await draw(this.values());
      this.sending = false;
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.repeat && (event.ctrlKey || event.metaKey) && !this.button.disabled) form.requestSubmit();
    });
  }

  /** A slider for the usual values beside a field for any. */
  slider(name, label, { value, min, max, step = 1, most = null, tip = "" }) {
    const number = h("input", { type: "number", id: name, value, step: step === 1 ? 1 : "any", required: true });
    if (step === 1) Object.assign(number, { min, max: most ?? max });
    const range = h("input", { type: "range", min, max, step, value, "aria-label": label, tabIndex: -1 });
    range.addEventListener("input", () => (number.value = range.value));
    number.addEventListener("input", () => (range.value = number.value));
    this.fields[name] = {
      get: () => Number(number.value),
      set: (now) => (number.value = range.value = String(now)),
    };
    return h("div.field", { title: tip }, h("label", { htmlFor: name }, label), range, number);
  }

  seed(value) {
    const number = h("input", { type: "number", id: "seed", value, min: 0, max: 2 ** 53 - 1, step: 1, required: true });
    const random = () => (number.value = String(Math.floor(Math.random() * 2 ** 31)));
    const next = () => (number.value = String(Number(number.value) + this.fields.images_per_guide.get()));
    this.fields.seed = { get: () => Number(number.value), set: (now) => (number.value = String(now)) };
    return h("div.field.seed", {}, h("label", { htmlFor: "seed" }, "Seed"), number,
      h("button", { type: "button", onclick: next, title: "The seeds after those of these pictures" }, "Next"),
      h("button", { type: "button", onclick: random, title: "Any seed" }, "Random"));
  }

  size(most) {
    const side = (name, label) => h("input", { type: "number", id: name, min: 1, max: most, placeholder: label, "aria-label": label });
    const [width, height] = [side("width", "width"), side("height", "height")];
    this.sides = [width, height];
    const swap = () => ([width.value, height.value] = [height.value, width.value]);
    const get = (mine, other, place) => () => {
      if (!mine.value && !other.value) return null;
      return mine.value ? Number(mine.value) : (this.facts?.size[place] ?? Number(other.value));
    };
    this.fields.width = { get: get(width, height, 0), set: (now) => (width.value = now ?? "") };
    this.fields.height = { get: get(height, width, 1), set: (now) => (height.value = now ?? "") };
    return h("div.field.size", {}, h("label", { htmlFor: "width" }, "Size"), width, h("span", {}, "×"), height,
      h("button", { type: "button", title: "Swap the sides", onclick: swap }, "⇄"));
  }

  text(name, label, placeholder) {
    const area = h("textarea", { id: name, rows: 2, maxLength: 4000, placeholder, spellcheck: false });
    const isPrompt = name === "prompt";
    this[name] = area;
    this.fields[name] = {
      get: () => (isPrompt && (!this.facts || area.value === this.facts.prompt) && !(area.value && !this.facts) ? null : area.value),
      set: (now) => (area.value = now ?? this.facts?.prompt ?? ""),
    };
    return h("div.field.text", {}, h("label", { htmlFor: name }, label), area);
  }

  pad() {
    const select = h("select", { id: "uncond" }, ["", "zeros", "eos"].map((value) =>
      h("option", { value }, value || "as the run")));
    this.fields.uncond = { get: () => select.value || null, set: (now) => (select.value = now ?? "") };
    return h("div.field.plain", { title: "What stands for the guide on the side that is led away from." },
      h("label", { htmlFor: "uncond" }, "Pad"), select);
  }

  bare() {
    const box = h("input", { type: "checkbox", id: "no_pfg" });
    this.fields.no_pfg = { get: () => box.checked, set: (now) => (box.checked = now) };
    return h("label.field.plain.check", { title: "To compare: pictures of the prompt alone." }, box, "Leave the guide out");
  }

  /** What the model is: fills the prompt, once, and says which sizes there are. */
  know(facts) {
    if (this.facts || !facts.size) return;
    this.facts = facts;
    if (!this.prompt.value) this.prompt.value = facts.prompt;
    setText(this.form.querySelector("h2"), "Settings");
    for (const [place, side] of this.sides.entries()) {
      side.placeholder = String(facts.size[place]);
      side.step = side.min = facts.step;
    }
  }

  /** The settings as the server takes them. */
  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.get()]));
  }

  /** Show the settings of a drawing. */
  show(settings) {
    for (const [name, field] of Object.entries(this.fields)) if (name in settings) field.set(settings[name]);
    if (settings.uncond || settings.no_pfg) this.form.querySelector("details").open = true;
  }

  /** How many guides the button draws, and why it may not. */
  ready(count, model) {
    this.button.disabled = count === 0 || model.state === "failed";
    setText(this.button, count > 1 ? `Draw ${count} guides` : "Draw");
    setText(this.hint, count === 0 ? "Choose a guide first." : model.state === "loading" ? "Begins when the model is loaded." : "Ctrl + Enter");
  }
}
