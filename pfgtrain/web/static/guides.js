// The guides: dropped, pasted or chosen; what the tagger saw in each; which are to be drawn.

import { post, remove, upload } from "/static/api.js";
import { fill, h, Keyed, setText, toast } from "/static/dom.js";

const FEW = 6; // tags shown before a guide is unfolded

export class Guides {
  /** `changed` is told when other guides are chosen, `asked` when the server has something new. */
  constructor(parent, { about, changed, asked, fromStore }) {
    this.about = about;
    this.changed = changed;
    this.asked = asked;
    this.chosen = new Set();
    this.known = new Map();
    this.input = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
    this.input.id = "choose";
    this.input.addEventListener("change", () => {
      this.take(this.input.files);
      this.input.value = "";
    });
    this.list = h("div.guide-list");
    this.views = new Keyed(this.list, (guide) => this.view(guide));
    this.waiting = h("p.quiet.small", { hidden: true });
    const samples = about.samples.map((name) =>
      h("button.sample", { type: "button", title: name, onclick: () => this.sample(name) },
        h("img", { src: `/static/guides/${name}`, alt: name, width: 64, height: 64 })));
    fill(parent,
      h("h2", {}, "Guides"),
      h("button.drop", { type: "button", onclick: () => this.input.click() },
        h("strong", {}, "Drop images, paste, or choose"),
        h("span.quiet.small", {}, "Each guide is drawn by itself.")),
      this.input,
      about.store && h("button.wide", { type: "button", id: "from-store", onclick: fromStore },
        `Pick from the store ${about.store}`),
      this.waiting,
      this.list,
      samples.length > 0 && h("div.samples", {}, h("h3", {}, "Guides to try"), h("div.sample-grid", {}, samples)),
    );
    this.listen();
  }

  listen() {
    const cover = document.getElementById("dropping");
    let depth = 0;
    const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
    window.addEventListener("dragenter", (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      cover.hidden = false;
    });
    window.addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      cover.hidden = depth === 0;
    });
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      cover.hidden = true;
      if (hasFiles(event)) this.take(event.dataTransfer.files);
    });
    window.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) {
        event.preventDefault();
        this.take(files);
      }
    });
  }

  /** Send files, one after the other, and choose what is kept. */
  async take(files) {
    const all = [...files];
    for (const [index, file] of all.entries()) {
      this.waiting.hidden = false;
      setText(this.waiting, `sending ${index + 1} of ${all.length}: ${file.name}`);
      if (file.size > this.about.bounds.upload) {
        toast(`${file.name}: larger than ${Math.round(this.about.bounds.upload / 2 ** 20)} MB`, { bad: true });
        continue;
      }
      await this.add(() => upload(file), file.name);
    }
    this.waiting.hidden = true;
  }

  sample(name) {
    return this.add(async () => (await post("/api/samples", { name })).id, name);
  }

  /** Add what `send` gives the id of, and choose it. */
  async add(send, name) {
    try {
      this.chosen.add(await send());
      this.asked();
      this.changed();
    } catch (problem) {
      toast(problem.message.includes(name) ? problem.message : `${name}: ${problem.message}`, { bad: true });
    }
  }

  /** Choose just these, as a drawing had them. */
  choose(ids) {
    this.chosen = new Set(ids.filter((id) => this.known.has(id)));
    this.update([...this.known.values()]);
  }

  /** The chosen ones that are here, in the order of the page. */
  get picked() {
    return [...this.known.keys()].filter((id) => this.chosen.has(id));
  }

  update(guides) {
    this.known = new Map(guides.map((guide) => [guide.id, guide]));
    this.views.update(guides);
    this.changed();
  }

  view(guide) {
    const box = h("input", { type: "checkbox", onchange: () => this.toggle(guide.id), "aria-label": `draw ${guide.name}` });
    const tags = h("ul.tags");
    const more = h("button.link.small", { type: "button", hidden: true, onclick: () => {
      unfolded = !unfolded;
      unfold();
    } });
    const card = h("article.guide.card", { "data-guide": guide.id },
      h("label.guide-head", {},
        h("span.guide-look", {}, h("img", { src: `/guides/${guide.id}.jpg`, alt: "" }), box),
        h("span.guide-name", {}, h("strong", { title: guide.name }, guide.name),
          h("span.quiet.small", {}, `${guide.width} × ${guide.height}`))),
      h("button.close", { type: "button", title: "Take it off the page", "aria-label": `remove ${guide.name}`,
        onclick: () => this.drop(guide.id) }, "×"),
      tags, more);
    let unfolded = false;
    let seen = null;
    const unfold = () => {
      tags.replaceChildren(...rows(seen, unfolded));
      const rest = seen.tags.length - FEW;
      more.hidden = rest <= 0;
      setText(more, unfolded ? "fewer tags" : `${rest} more`);
    };
    return {
      element: card,
      update: (now) => {
        box.checked = this.chosen.has(now.id);
        card.classList.toggle("chosen", box.checked);
        if (now.seen && !seen) {
          seen = now.seen;
          unfold();
        } else if (now.problem) {
          tags.replaceChildren(h("li.problem.small", {}, now.problem));
        } else if (!seen) {
          if (!tags.firstChild) tags.append(h("li.quiet.small", {}, "the tagger has not looked yet"));
        }
      },
    };
  }

  toggle(id) {
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.update([...this.known.values()]);
  }

  async drop(id) {
    this.chosen.delete(id);
    await remove(`/api/guides/${id}`).catch((problem) => toast(problem.message, { bad: true }));
    this.asked();
  }
}

/** What the tagger saw, a bar for each score; what is below its threshold is quiet. */
function rows(seen, all) {
  const named = seen.characters.map((one) => [...one, "character"]);
  const tags = seen.tags.slice(0, all ? seen.tags.length : FEW).map((one) => [...one, "tag"]);
  const shown = [...named, ...tags, ...(all && seen.rating ? [[...seen.rating, true, "rating"]] : [])];
  return shown.map(([name, score, counts, kind]) => {
    const bar = h("span.bar", { "aria-hidden": "true" }, h("span.fill"));
    bar.firstChild.style.width = `${(score * 100).toFixed(1)}%`;
    return h(counts ? `li.${kind}` : `li.${kind}.below`, { title: `${kind} ${name} ${score.toFixed(3)}` },
      h("span.tag-name", {}, name.replaceAll("_", " ")), bar, h("span.score", {}, score.toFixed(2)));
  });
}
