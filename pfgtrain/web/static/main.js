// The page: puts its parts together, and shows each new state of the server in them.

import { get, post, Watch } from "/static/api.js";
import { setText, toast } from "/static/dom.js";
import { Drawings } from "/static/drawings.js";
import { Guides } from "/static/guides.js";
import { Settings } from "/static/settings.js";
import { StorePicker } from "/static/store.js";
import { Viewer } from "/static/viewer.js";

const at = (id) => document.getElementById(id);
const about = await get("/api/about");
let model = { state: "loading", task: "torch and diffusers", notes: [], facts: {} };

setText(at("folder"), about.folder);
at("folder").title = "Guides and pictures are here";

const watch = new Watch(show, lost);
const picker = about.store ? new StorePicker({ name: about.store, take: (send, name) => guides.add(send, name) }) : null;
const guides = new Guides(at("guides"), { about, changed: refresh, asked: () => watch.now(), fromStore: () => picker.open() });
const settings = new Settings(at("settings"), { about, draw });
const viewer = new Viewer({ reuse });
const drawings = new Drawings(at("drawings"), { about, reuse, asked: () => watch.now(), look: (drawing, index) => viewer.show(drawing, index) });

refresh();
watch.now();

/** Show a state; whether something is under way, of which there is more to hear soon. */
function show(state) {
  model = state.model;
  settings.know(model.facts);
  drawings.facts = model.facts;
  guides.update(state.guides);
  drawings.update(state.drawings);
  drawings.note(model.notes);
  showModel();
  const active = state.drawings.filter((one) => one.state === "drawing" || one.state === "waiting");
  const now = active.find((one) => one.state === "drawing");
  document.title = now ? `${Math.round((100 * now.step) / now.steps)} % · ${about.name}` : `${about.name} · pfgtrain web`;
  const unseen = state.guides.some((one) => !one.seen && !one.problem);
  return model.state === "loading" || active.length > 0 || (unseen && model.state === "ready");
}

function showModel() {
  const { facts } = model;
  const words = {
    loading: `${about.name}: loading ${model.task} …`,
    failed: `${about.name}: ${model.error}`,
    ready: [about.name, facts.weights, `base ${facts.base}`, `tagger ${facts.tagger}`, facts.device].join(" · "),
  }[model.state];
  const chip = at("model");
  setText(chip, words);
  chip.dataset.state = model.state;
}

function refresh() {
  if (settings) settings.ready(guides.picked.length, model);
}

async function draw(values) {
  try {
    await post("/api/drawings", { guides: guides.picked, settings: values });
    at("drawings").scrollTo({ top: 0 });
    watch.now();
  } catch (problem) {
    toast(problem.message, { bad: true });
  }
}

function reuse(drawing) {
  settings.show(drawing.settings);
  guides.choose([drawing.guide.id]);
}

/** The server does not answer, or does again. */
function lost(problem) {
  if (problem === null) {
    if (at("model").dataset.state === "lost") showModel();
    return;
  }
  at("model").dataset.state = "lost";
  setText(at("model"), problem);
}
