// Owns one picture: who is on it, how it is framed, what is behind. A character's options follow from its own
// name, what changes from view to view from the view's name: all views show one face and outfit.
import { TRANSPARENT, background } from "./background.mjs";
import { chooseVariant, encode, isAnimated, isGrey, isTransparent } from "./encode.mjs";
import { generator } from "./random.mjs";
import { avatar, compose, parts, raster } from "./render.mjs";
import { STYLES, isColour } from "./styles.mjs";
import { pictureTags } from "./tags.mjs";
import { hiddenParts } from "./visibility.mjs";

const PORTRAIT_SIDE = 256;
const SCENE_SIDES = { least: 256, most: 1200 };
const ANY_ASPECT = 0; // from 1:2 to 2:1
const SCENE_ASPECTS = {
  1: 22,
  0.75: 16,
  0.6667: 12,
  0.5625: 5,
  1.3333: 12,
  1.5: 6,
  1.7778: 5,
  [ANY_ASPECT]: 22,
};

/** Choose from `table` of a style: `{options: option -> part or null, colours: option -> tag or null}`. */
function choose(random, style, table) {
  const { weights, drop } = STYLES[style];
  const options = {};
  const colours = {};
  for (const [option, entry] of Object.entries(table)) {
    if (isColour(entry)) {
      const names = Object.keys(entry).map((name) => [name, weights?.[option]?.[name] ?? 1]);
      const name = random.weighted(Object.fromEntries(names));
      options[option] = random.pick(entry[name]);
      colours[option] = name === "x" ? null : name;
    } else if (entry >= 1 || random() < entry) {
      const offered = parts(style, option).filter((part) => !drop?.[option]?.includes(part));
      options[option] = random.pick(offered.sort());
    } else options[option] = null;
  }
  return { options, colours };
}

/** Character `number` of the corpus with that `letter`: `{style, name, options, colours}`. */
export function character(style, { letter, number }) {
  const random = generator(`id|${style}|${letter}|${number}`);
  const name = `${style}-${letter}${String(number).padStart(4, "0")}`;
  return { style, name, ...choose(random, style, STYLES[style].identity) };
}

/** Head and shoulders fill the square; only a slight shift and scale. */
function portraitLayout(random, style) {
  const width = PORTRAIT_SIDE;
  const size = width * random.uniform(0.94, 1.06);
  const x = (width - size) / 2 + random.uniform(-0.03, 0.03) * width;
  const y = STYLES[style].bust
    ? width - size * 0.995
    : (width - size) / 2 + random.uniform(-0.03, 0.03) * width;
  return { width, height: width, x, y, size, rotation: 0, flip: false, scale: 1 };
}

function sceneSize(random) {
  const chosen = +random.weighted(SCENE_ASPECTS);
  const aspect = chosen === ANY_ASPECT ? Math.exp(random.uniform(-Math.LN2, Math.LN2)) : chosen;
  const { least, most } = SCENE_SIDES;
  const ratio = Math.max(aspect, 1 / aspect);
  const drawn = Math.exp(random.uniform(Math.log(least), Math.log(most / ratio)));
  const [short, long] = [Math.round(drawn), Math.min(most, Math.round(drawn * ratio))];
  return aspect >= 1 ? [long, short] : [short, long];
}

function sceneScale(random) {
  if (random() < 0.12) return random.uniform(1.05, 1.35);
  return random() < 0.2 ? random.uniform(0.4, 0.6) : random.uniform(0.65, 1.02);
}

/** Any place, scale, rotation and aspect; a bust mostly stands on the lower edge. */
function sceneLayout(random, style) {
  const { bust, pixel } = STYLES[style];
  const [width, height] = sceneSize(random);
  const scale = sceneScale(random);
  const size = Math.min(width, height) * scale;
  const standing = bust && random() < 0.82;
  const x = (width - size) / 2 + random.uniform(-0.5, 0.5) * Math.max(width - size, size * 0.12);
  let y = standing
    ? height - size + size * 0.01
    : (height - size) / 2 + random.uniform(-0.5, 0.5) * Math.max(height - size, size * 0.1);
  if (scale > 1.04 && standing) y = height - size + (size * random.uniform(0.05, 0.25) * (scale - 1)) / 0.35;
  const rotation = pixel ? 0 : random() < 0.35 ? random.uniform(-14, 14) : 0;
  const flip = random() < 0.3;
  if (standing && rotation) y += size * 0.06;
  return { width, height, x, y, size, rotation, flip, scale };
}

/** Two more frames of an animation: other eyes, then another mouth. */
function laterFrames({ style, options, layout, behind, seed, view }) {
  const random = generator(`anim|${view}`);
  const changing = Object.keys(STYLES[style].view);
  const eyes = changing.includes("eyes") ? "eyes" : "face";
  const mouth = eyes === "face" ? "face" : changing.find((option) => /mouth|lips/.test(option));
  return [eyes, mouth].map((option) => {
    const changed = { ...options, [option]: random.pick(parts(style, option)) };
    return raster(compose(layout, avatar(style, changed, seed), behind.svg));
  });
}

/** Draw view `number` of `who` as `corpus` says: `{name, bytes, extension, size, tags: {all, coarse}}`. */
export async function picture(who, number, corpus) {
  const { style } = who;
  const name = `${who.name}-v${number}`;
  const random = generator(`view|${name}`);
  const options = { ...who.options, ...choose(random, style, STYLES[style].view).options };
  const variant = chooseVariant(random, corpus.formats);
  const portrait = corpus.framing === "portrait";
  const layout = (portrait ? portraitLayout : sceneLayout)(random, style);
  const { width, height } = layout;
  const behind = isTransparent(variant)
    ? TRANSPARENT
    : background(random, { width, height, mono: STYLES[style].mono, portrait });
  const figure = { style, options, layout, seed: who.name };
  const first = raster(compose(layout, avatar(style, options, who.name), behind.svg));
  const animated = isAnimated(variant);
  const frames = animated ? [first, ...laterFrames({ ...figure, behind, view: name })] : [first];
  const { bytes, extension } = await encode(random, variant, frames, corpus);
  const size = corpus.side ? [corpus.side, corpus.side] : [width, height];
  if (corpus.tagged === false) return { name, bytes, extension, size, tags: { all: [], coarse: [] } };
  const shown = { style, options, colours: who.colours, hidden: hiddenParts(figure) };
  const tags = pictureTags(shown, { layout, behind, grey: isGrey(variant), animated });
  return { name, bytes, extension, size, tags };
}
