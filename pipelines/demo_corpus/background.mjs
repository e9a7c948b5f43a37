// Owns what is behind a character: SVG that fills the picture, and the tags it deserves.
// Colours are rounded to whole degrees and percents before they become hex.

const PORTRAIT_KINDS = { white: 3, solid: 6, gradient: 1 };
const SCENE_KINDS = {
  white: 14,
  solid: 24,
  gradient: 18,
  radial: 8,
  stripes: 7,
  dots: 7,
  checker: 5,
  blobs: 8,
  sky: 9,
};

/** Hex colour of hue in degrees, saturation and lightness in percent. */
function hex(hue, saturation, lightness) {
  const s = saturation / 100;
  const l = lightness / 100;
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    const value = l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value)
      .toString(16)
      .padStart(2, "0");
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}

/** A function that draws a random colour, `darkest` (0..1) being the least lightness. */
function palette(random, darkest) {
  return () => {
    const hue = random() * 360;
    const saturation = random.uniform(0.15, 0.75) * 100;
    const lightness = random.uniform(darkest, 0.9) * 100;
    return hex(+hue.toFixed(0), +saturation.toFixed(0), +lightness.toFixed(0));
  };
}

const stops = (colour) =>
  `<stop offset="0" stop-color="${colour()}"/><stop offset="1" stop-color="${colour()}"/>`;

/** One SVG body per kind; `full` is the size as attributes, `short` the shorter side in pixels. */
const DRAW = {
  white: ({ full }) => `<rect ${full} fill="#fff"/>`,
  solid: ({ full, colour }) => `<rect ${full} fill="${colour()}"/>`,
  gradient: ({ random, full, colour }) => {
    const turn = random.uniform(0, 360).toFixed(0);
    const rotated = `gradientTransform="rotate(${turn} .5 .5)"`;
    const inside = `<linearGradient id="bg" ${rotated}>${stops(colour)}</linearGradient>`;
    return `<defs>${inside}</defs><rect ${full} fill="url(#bg)"/>`;
  },
  radial: ({ random, full, colour }) => {
    const centre = `cx="${random().toFixed(2)}" cy="${random().toFixed(2)}"`;
    const inside = `<radialGradient id="bg" ${centre} r="1">${stops(colour)}</radialGradient>`;
    return `<defs>${inside}</defs><rect ${full} fill="url(#bg)"/>`;
  },
  stripes: (scene) =>
    pattern(scene, (p, { colour }) => `<rect width="${p / 2}" height="${p}" fill="${colour()}"/>`),
  dots: (scene) =>
    pattern(scene, (p, { random, colour }) => {
      const radius = p * random.uniform(0.15, 0.35);
      return `<circle cx="${p / 2}" cy="${p / 2}" r="${radius}" fill="${colour()}"/>`;
    }),
  checker: (scene) =>
    pattern(scene, (p, { colour }) => {
      const half = `width="${p / 2}" height="${p / 2}"`;
      return `<rect ${half} fill="${colour()}"/><rect x="${p / 2}" y="${p / 2}" ${half} fill="${colour()}"/>`;
    }),
  blobs: ({ random, full, colour, short, width, height }) => {
    let svg = `<rect ${full} fill="${colour()}"/>`;
    for (let left = random.integer(6, 18); left > 0; left--) {
      const place = `cx="${(random() * width).toFixed(0)}" cy="${(random() * height).toFixed(0)}"`;
      const radius = (short * random.uniform(0.04, 0.3)).toFixed(0);
      const fill = `fill="${colour()}" fill-opacity="${random.uniform(0.3, 0.9).toFixed(2)}"`;
      svg += `<circle ${place} r="${radius}" ${fill}/>`;
    }
    return svg;
  },
  sky,
};

const TAGS = {
  white: ["white_background", "simple_background"],
  solid: ["simple_background", "colored_background"],
  gradient: ["simple_background", "gradient_background"],
  radial: ["simple_background", "gradient_background"],
  stripes: ["striped_background"],
  dots: ["polka_dot_background"],
  checker: ["checkered_background"],
  blobs: ["abstract_background"],
  sky: ["outdoors", "sky"],
};

/** A repeated tile of `tile(period, scene)` over a plain colour; a checker stays upright. */
function pattern(scene, tile) {
  const { random, full, colour, short, kind } = scene;
  const period = short * random.uniform(0.06, 0.2);
  const drawn = random.integer(0, 90);
  const turn = kind === "checker" ? 0 : drawn;
  const inside = tile(period, scene);
  const size = `width="${period}" height="${period}" patternUnits="userSpaceOnUse"`;
  const defs = `<defs><pattern id="bg" ${size} patternTransform="rotate(${turn})">${inside}</pattern></defs>`;
  return `${defs}<rect ${full} fill="${colour()}"/><rect ${full} fill="url(#bg)"/>`;
}

/** Blue sky with perhaps a sun, one to four clouds, and ground below a horizon. */
function sky({ random, full, short, width, height }) {
  const blues = '<stop offset="0" stop-color="#6db7f2"/><stop offset="1" stop-color="#e3f3ff"/>';
  const gradient = `<linearGradient id="bg" x2="0" y2="1">${blues}</linearGradient>`;
  let svg = `<defs>${gradient}</defs><rect ${full} fill="url(#bg)"/>`;
  const horizon = height * random.uniform(0.55, 0.85);
  if (random() < 0.6) {
    const place = `cx="${random() * width}" cy="${height * random.uniform(0.05, 0.3)}"`;
    svg += `<circle ${place} r="${short * 0.09}" fill="#ffe680"/>`;
  }
  for (let left = random.integer(1, 4); left > 0; left--) {
    const x = random() * width;
    const y = height * random.uniform(0.05, 0.45);
    const r = short * random.uniform(0.04, 0.09);
    const middle = `<circle cx="${x}" cy="${y}" r="${r}"/>`;
    const right = `<circle cx="${x + r}" cy="${y + r * 0.2}" r="${r * 0.8}"/>`;
    const other = `<circle cx="${x - r}" cy="${y + r * 0.25}" r="${r * 0.7}"/>`;
    svg += `<g fill="#fff" fill-opacity=".9">${middle}${right}${other}</g>`;
  }
  const ground = random.pick(["#7cc46a", "#b9d77a", "#e8d3a0", "#8fb8d8"]);
  return `${svg}<rect y="${horizon}" width="${width}" height="${height - horizon}" fill="${ground}"/>`;
}

/** Draw what is behind: `{svg, tags}`. Under a style of black lines (`mono`) the colours stay light. */
export function background(random, { width, height, mono, portrait }) {
  const kind = random.weighted(portrait ? PORTRAIT_KINDS : SCENE_KINDS);
  const scene = {
    random,
    kind,
    width,
    height,
    full: `width="${width}" height="${height}"`,
    short: Math.min(width, height),
    colour: palette(random, mono ? 0.45 : 0.2),
  };
  return { svg: DRAW[kind](scene), tags: TAGS[kind] };
}

/** No background: the picture keeps its alpha channel. */
export const TRANSPARENT = { svg: "", tags: ["transparent_background", "simple_background"] };
