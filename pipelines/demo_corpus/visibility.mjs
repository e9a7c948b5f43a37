// Owns the question which parts of a character can be seen in a picture: hair under a hat or a beard outside
// the frame earns no tag. The answer comes from drawing: with the part gone the picture must differ.
import { avatar, compose, parts, properties, raster } from "./render.mjs";
import { STYLES, isColour } from "./styles.mjs";

const LONG_SIDE = 320; // pixels of the drawings that are compared
const CHANGED = 24; // of 255: less in every channel is antialiasing
const LEAST_PIXELS = 8;
const LEAST_PIXELS_SMALL = { freckles: 5, features: 5 };
const LEAST_PIXELS_EXPRESSION = 3;
const LEAST_PIXELS_HAIR = 40; // under a hat
const EXPRESSION = new Set(["mouth", "lips", "face", "eyes"]);

function changedPixels(a, b) {
  let changed = 0;
  for (let i = 0; i < a.data.length; i += 4) {
    const far = (channel) => Math.abs(a.data[i + channel] - b.data[i + channel]) > CHANGED;
    if (far(0) || far(1) || far(2)) changed++;
  }
  return changed;
}

/** A function that says whether a drawing with other options changes at least `least` pixels. */
function comparison({ style, options, layout, seed }) {
  const { width, height } = layout;
  const behind = `<rect width="${width}" height="${height}" fill="#8fa"/>`;
  const fitTo = { mode: width >= height ? "width" : "height", value: LONG_SIDE };
  const draw = (changed) => raster(compose(layout, avatar(style, changed, seed), behind), fitTo);
  const reference = draw(options);
  return (changed, least) => changedPixels(reference, draw(changed)) >= least;
}

/** The options among `options` whose part is there but cannot be seen in this layout. */
export function hiddenParts({ style, options, layout, seed }) {
  const differs = comparison({ style, options, layout, seed });
  const { identity, minHair } = STYLES[style];
  const known = properties(style);
  const hidden = new Set();
  for (const [option, part] of Object.entries(options)) {
    if (part === null || isColour(identity[option])) continue;
    const optional = (known[`${option}Probability`] && option !== "hair") || option === "gesture";
    if (optional) {
      const least = LEAST_PIXELS_SMALL[option] ?? LEAST_PIXELS;
      if (!differs({ ...options, [option]: null }, least)) hidden.add(option);
    } else if (option === "hair" && minHair && part !== minHair && options.hat) {
      if (!differs({ ...options, hair: minHair }, LEAST_PIXELS_HAIR)) hidden.add("hair");
    } else if (EXPRESSION.has(option)) {
      const all = parts(style, option);
      const others = [all.find((other) => other !== part), all.at(-1) === part ? all[1] : all.at(-1)];
      const seen = others.some((other) => differs({ ...options, [option]: other }, LEAST_PIXELS_EXPRESSION));
      if (!seen) hidden.add(option);
    }
  }
  if (options.mask && options.facialHair) hidden.add("facialHair");
  return hidden;
}
