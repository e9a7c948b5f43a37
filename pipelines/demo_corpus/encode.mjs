// Owns file formats: RGBA pixels to the bytes of a file, as varied as what people keep on their disks.
// sharp runs on one thread without cache, so that nothing depends on the load of a machine.
import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);

const COMMON = {
  jpg: 52,
  pngrgb: 11,
  pngrgba: 4,
  pngtrans: 5,
  pngpal: 5,
  webp: 12,
  webpll: 2,
  webptrans: 2,
  jpgexif: 2.5,
  jpgcmyk: 0.8,
  png16: 0.8,
  greyjpg: 0.8,
  greypng: 0.5,
  la: 0.3,
  gif: 0.5,
  animgif: 0.5,
  animwebp: 0.5,
};
const SMALL = { jpg: 30, pngpal: 22, webp: 34, webptrans: 6, pngtranspal: 5, jpgexif: 3 };
const PNG = { compressionLevel: 7 };

/** A variant of a file: always that of `formats` "webp"; of "small" (for git) or "common" a random one. */
export function chooseVariant(random, formats) {
  if (formats === "webp") return "webp";
  return random.weighted(formats === "small" ? SMALL : COMMON);
}

export const isTransparent = (variant) => /trans|^la$/.test(variant);
export const isAnimated = (variant) => variant.startsWith("anim");
export const isGrey = (variant) => /^grey|^la$/.test(variant); // la: grey with alpha

const image = ({ data, width, height }) => sharp(data, { raw: { width, height, channels: 4 } });
const opaque = (pixels) => image(pixels).removeAlpha();

function jpegOptions(random, small) {
  return {
    quality: small ? random.integer(75, 82) : random.integer(75, 95),
    progressive: random() < 0.2,
    chromaSubsampling: !small && random() < 0.3 ? "4:4:4" : "4:2:0",
    mozjpeg: small,
  };
}

/** The stored pixels from which a reader that applies EXIF `orientation` gets `pixels`. */
function stored({ data, width, height }, orientation) {
  const turned = orientation >= 5;
  const [storedWidth, storedHeight] = turned ? [height, width] : [width, height];
  const right = width - 1;
  const bottom = height - 1;
  const place = {
    2: (x, y) => [right - x, y],
    3: (x, y) => [right - x, bottom - y],
    4: (x, y) => [x, bottom - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, right - x],
    7: (x, y) => [bottom - y, right - x],
    8: (x, y) => [bottom - y, x],
  }[orientation];
  const result = Buffer.alloc(data.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [toX, toY] = place(x, y);
      const from = (y * width + x) * 4;
      data.copy(result, (toY * storedWidth + toX) * 4, from, from + 4);
    }
  return { data: result, width: storedWidth, height: storedHeight };
}

function withOrientation(random, pixels, small) {
  const orientation = random.integer(2, 8);
  return opaque(stored(pixels, orientation))
    .withExif({ IFD0: { Software: "corpus" } })
    .withMetadata({ orientation })
    .jpeg(jpegOptions(random, small));
}

function palettePng(random, base, small) {
  const colours = random.pick(small ? [16, 24, 32] : [16, 64, 256]);
  const dither = small ? 0 : random.pick([0, 1]);
  return base.png({ palette: true, colours, dither, compressionLevel: 9, effort: small ? 10 : 5 });
}

function webp(random, pixels, { small, side }) {
  if (side) return opaque(pixels).resize(side, side, { kernel: "lanczos3" }).webp({ quality: 84, effort: 4 });
  const quality = small ? random.integer(60, 76) : random.integer(70, 92);
  return opaque(pixels).webp({ quality, effort: small ? 6 : 3 });
}

async function animation(frames) {
  const files = await Promise.all(
    frames.map((frame) => image(frame).png({ compressionLevel: 1 }).toBuffer()),
  );
  return sharp(files, { join: { animated: true } });
}

const ENCODERS = {
  jpg: ["jpg", (random, [pixels], { small }) => opaque(pixels).jpeg(jpegOptions(random, small))],
  jpgexif: ["jpg", (random, [pixels], { small }) => withOrientation(random, pixels, small)],
  jpgcmyk: [
    "jpg",
    (random, [pixels], { small }) => opaque(pixels).toColourspace("cmyk").jpeg(jpegOptions(random, small)),
  ],
  greyjpg: [
    "jpg",
    (random, [pixels], { small }) => opaque(pixels).toColourspace("b-w").jpeg(jpegOptions(random, small)),
  ],
  greypng: ["png", (_, [pixels]) => opaque(pixels).toColourspace("b-w").png(PNG)],
  la: ["png", (_, [pixels]) => image(pixels).toColourspace("b-w").png(PNG)],
  pngrgb: ["png", (random, [pixels]) => opaque(pixels).png({ ...PNG, progressive: random() < 0.1 })],
  pngrgba: ["png", (_, [pixels]) => image(pixels).png(PNG)],
  pngtrans: ["png", (_, [pixels]) => image(pixels).png(PNG)],
  pngpal: ["png", (random, [pixels], { small }) => palettePng(random, opaque(pixels), small)],
  pngtranspal: ["png", (random, [pixels], { small }) => palettePng(random, image(pixels), small)],
  png16: ["png", (_, [pixels]) => opaque(pixels).toColourspace("rgb16").png(PNG)],
  webp: ["webp", (random, [pixels], options) => webp(random, pixels, options)],
  webpll: ["webp", (_, [pixels]) => opaque(pixels).webp({ lossless: true, effort: 2 })],
  webptrans: [
    "webp",
    (_, [pixels], { small }) => image(pixels).webp({ quality: small ? 72 : 85, effort: small ? 6 : 3 }),
  ],
  gif: ["gif", (_, [pixels]) => opaque(pixels).gif({ effort: 3 })],
  animgif: [
    "gif",
    async (_, frames) => (await animation(frames)).gif({ delay: frames.map(() => 300), loop: 0, effort: 3 }),
  ],
  animwebp: [
    "webp",
    async (_, frames) =>
      (await animation(frames)).webp({ quality: 80, delay: frames.map(() => 300), loop: 0, effort: 2 }),
  ],
};

/** `{bytes, extension}` of `frames` (several: an animation) as `variant`; `side` shrinks WebP to a square. */
export async function encode(random, variant, frames, { formats, side }) {
  const [extension, build] = ENCODERS[variant];
  const pipeline = await build(random, frames, { small: formats === "small", side });
  return { bytes: await pipeline.toBuffer(), extension };
}
