// The drawings, the latest first: progress while one is made, then its pictures with what made them.

import { post, remove } from "/static/api.js";
import { copy, duration, h, Keyed, setText, toast } from "/static/dom.js";

const SECOND_CLICK = 700; // ms in which a click may be the second of two, meant for what stood here before
const WORDS = { waiting: "waiting", drawing: "drawing", done: "", cancelled: "cancelled", failed: "failed" };

export class Drawings {
  constructor(parent, { asked, reuse, look, about }) {
    this.asked = asked;
    this.reuse = reuse;
    this.look = look;
    this.facts = null;
    this.empty = h("div.empty", {}, h("h2", {}, "Nothing drawn yet"),
      h("p.quiet", {}, about.samples.length
        ? "Drop an image, or take one of the guides to try on the left. Then press Draw."
        : "Drop an image of what the pictures are to show. Then press Draw."));
    this.list = h("div.drawing-list");
    this.views = new Keyed(this.list, (drawing) => this.view(drawing));
    this.words_of_queue = h("span.quiet.small");
    this.all = h("button", { type: "button", id: "cancel-all", onclick: () => this.cancelAll() }, "Cancel all");
    this.queue = h("div.queue.row", { hidden: true }, this.words_of_queue, this.all);
    this.notes = h("ul.notes.small", { hidden: true });
    parent.append(this.notes, this.queue, this.empty, this.list);
  }

  /** What one should know of the model. */
  note(notes) {
    if (this.notes.childElementCount !== notes.length) this.notes.replaceChildren(...notes.map((note) => h("li", {}, note)));
    this.notes.hidden = notes.length === 0;
  }

  update(drawings) {
    this.empty.hidden = drawings.length > 0;
    this.views.update(drawings);
    this.active = drawings.filter((one) => one.state === "waiting" || one.state === "drawing").map((one) => one.id);
    this.queue.hidden = this.active.length < 2;
    setText(this.words_of_queue, `${this.active.length} drawings to make`);
  }

  /** Cancel what waits, then what is under way: nothing begins in between. */
  async cancelAll() {
    this.all.disabled = true;
    for (const id of [...this.active].sort((one, other) => other - one)) await cancel(id).catch(told);
    this.all.disabled = false;
    this.asked();
  }

  view(first) {
    const { settings, guide } = first;
    let latest = first;
    const state = h("span.state.small");
    const done = h("span.fill");
    const bar = h("div.progress", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": first.steps }, done);
    const grid = h("div.pictures");
    const problem = h("p.problem", { hidden: true });
    const again = h("button", { type: "button", onclick: () => this.reuse(latest), title: "Put these settings and this guide in the form" }, "Use settings");
    const command = h("button.copy", { type: "button", title: latest.command, onclick: () => copy(latest.command, "command") }, "Copy command");
    const sheet = h("a.button", { hidden: true, target: "_blank", title: "The guide and its pictures in one PNG" }, "Sheet");
    const end = h("button.end", { type: "button", onclick: () => this.end(end, latest) });
    let ended = isEnded(first);
    const cells = Array.from({ length: settings.images_per_guide }, (_, index) => this.cell(settings, index, () => latest));
    grid.append(...cells.map((cell) => cell.element));
    const card = h("article.drawing", { "data-drawing": first.id },
      h("div.drawing-head", {},
        h("img.of", { src: `/guides/${guide.id}.jpg`, alt: "", loading: "lazy" }),
        h("div.drawing-words", {}, h("strong", {}, guide.name), h("p.quiet.small", {}, this.words(settings)),
          settings.prompt !== null && h("p.quiet.small.prompt-line", { title: settings.prompt }, settings.prompt || "no prompt"),
          settings.negative_prompt && h("p.quiet.small.prompt-line", { title: settings.negative_prompt }, `not: ${settings.negative_prompt}`)),
        h("div.drawing-buttons", {}, state, sheet, command, again, end)),
      bar, problem, grid);
    return {
      element: card,
      update: (now) => {
        latest = now;
        const busy = now.state === "drawing";
        card.dataset.state = now.state;
        setText(state, busy ? progress(now) : `${WORDS[now.state]}${now.state === "done" ? duration(now.seconds) : ""}`);
        bar.hidden = now.state !== "drawing" && now.state !== "waiting";
        bar.setAttribute("aria-valuenow", now.step);
        done.style.width = `${(100 * now.step) / now.steps}%`;
        problem.hidden = !now.error;
        setText(problem, now.error ?? "");
        if (!ended && isEnded(now)) {
          end.disabled = true;
          setTimeout(() => (end.disabled = false), SECOND_CLICK);
        }
        ended = isEnded(now);
        setText(end, ended ? "×" : "Cancel");
        end.classList.toggle("quiet-button", ended);
        end.title = ended ? "Take it off the page; its files stay" : "Stop at this step";
        end.setAttribute("aria-label", ended ? "remove" : "cancel");
        cells.forEach((cell, index) => cell.update(now, index));
        grid.hidden = now.state === "waiting" || (ended && now.pictures.length === 0);
        sheet.hidden = !now.sheet || now.pictures.length < 2;
        if (now.sheet) sheet.href = `/pictures/${encodeURIComponent(now.sheet)}`;
      },
    };
  }

  /** One picture's place: an empty frame of its shape, then the picture. */
  cell(settings, index, latest) {
    const frame = h("button.frame", { type: "button", disabled: true, onclick: () => this.look(latest(), index) });
    const figure = h("figure", {}, frame, h("figcaption", {}, `seed ${settings.seed + index}`));
    const [width, height] = [settings.width ?? this.facts?.size?.[0] ?? 1, settings.height ?? this.facts?.size?.[1] ?? 1];
    frame.style.aspectRatio = `${width} / ${height}`;
    let shown = null;
    return {
      element: figure,
      update: (now) => {
        const picture = now.pictures[index];
        figure.hidden = !picture && isEnded(now);
        frame.classList.toggle("coming", now.state === "drawing" && !picture);
        if (picture && shown !== picture.name) {
          shown = picture.name;
          frame.disabled = false;
          frame.replaceChildren(h("img", { src: `/pictures/${encodeURIComponent(shown)}`, alt: `picture ${index + 1} of ${now.guide.name}`, loading: "lazy" }));
        }
      },
    };
  }

  words(settings) {
    const parts = [`guidance ${settings.guidance_scale}`, `PFG ${settings.pfg_scale}`, `${settings.num_inference_steps} steps`];
    if (settings.guidance_rescale) parts.push(`rescale ${settings.guidance_rescale}`);
    if (settings.width) parts.push(`${settings.width} × ${settings.height}`);
    if (settings.no_pfg) parts.push("without the guide");
    if (settings.uncond) parts.push(`pad ${settings.uncond}`);
    return parts.join(" · ");
  }

  /** Cancel a drawing, or take one that has ended off the page; `button` takes no click until it shows that. */
  async end(button, drawing) {
    button.disabled = true;
    try {
      await (isEnded(drawing) ? remove(`/api/drawings/${drawing.id}`) : cancel(drawing.id));
    } catch (problem) {
      told(problem);
      button.disabled = false;
    }
    this.asked();
  }
}

const told = (problem) => toast(problem.message, { bad: true });
const cancel = (id) => post(`/api/drawings/${id}/cancel`, {});

/** Whether nothing more will come of a drawing. */
function isEnded({ state }) {
  return state !== "waiting" && state !== "drawing";
}

/** How far a drawing is, and how long it will take. */
function progress(now) {
  if (!now.step) return now.task ? `${now.task} …` : "begins …";
  const left = (now.seconds / now.step) * (now.steps - now.step);
  return `${Math.round((100 * now.step) / now.steps)} % · ${duration(left)} left`;
}
