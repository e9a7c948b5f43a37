// Owns the way from a character's options to pixels: DiceBear draws the SVG, resvg rasterizes it.
// No system fonts are loaded, so what is installed on a machine does not matter.
import { createAvatar } from "@dicebear/core";
import * as adventurer from "@dicebear/adventurer";
import * as lorelei from "@dicebear/lorelei";
import * as notionists from "@dicebear/notionists";
import * as openPeeps from "@dicebear/open-peeps";
import * as pixelArt from "@dicebear/pixel-art";
import { Resvg } from "@resvg/resvg-js";

const PACKAGES = { adventurer, lorelei, notionists, "open-peeps": openPeeps, "pixel-art": pixelArt };

/** Every option that `style` knows, as its JSON schema's properties. */
export const properties = (style) => PACKAGES[style].schema.properties;

/** The parts that `style` offers for `option`, such as ["variant01", ...]. */
export const parts = (style, option) => properties(style)[option].items.enum;

/** Our options (option -> part, null: left out) as DiceBear's: nothing is left to its own chance. */
function diceBearOptions(style, options, seed) {
  const known = properties(style);
  const result = { seed };
  for (const [option, part] of Object.entries(options)) {
    if (part !== null) result[option] = [part];
    if (part === null || known[`${option}Probability`])
      result[`${option}Probability`] = part === null ? 0 : 100;
  }
  for (const key of Object.keys(known)) if (key.endsWith("Probability") && !(key in result)) result[key] = 0;
  return result;
}

/** The character as an SVG element without metadata. */
export function avatar(style, options, seed) {
  const svg = createAvatar(PACKAGES[style], diceBearOptions(style, options, seed)).toString();
  return svg.replace(/<metadata[\s\S]*?<\/metadata>/, "");
}

/** The whole picture: `svg` of a character placed by `layout` over the SVG `behind`. */
export function compose(layout, svg, behind) {
  const { width, height, x, y, size, rotation, flip } = layout;
  const side = size.toFixed(1);
  const body = svg.replace(
    /^<svg /,
    `<svg x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${side}" height="${side}" `,
  );
  const centreX = x + size / 2;
  const centreY = y + size / 2;
  const turned = rotation ? `rotate(${rotation.toFixed(1)} ${centreX.toFixed(1)} ${centreY.toFixed(1)})` : "";
  const mirrored = flip ? ` translate(${(2 * centreX).toFixed(1)} 0) scale(-1 1)` : "";
  const frame = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  const figure = `<g transform="${turned}${mirrored}">${body}</g>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${frame}>${behind}${figure}</svg>`;
}

/** Pixels of `svg`: `{data, width, height}`, RGBA bytes; `fitTo` as in resvg. */
export function raster(svg, fitTo) {
  const image = new Resvg(svg, { ...(fitTo ? { fitTo } : {}), font: { loadSystemFonts: false } }).render();
  return { data: Buffer.from(image.pixels), width: image.width, height: image.height };
}
