// Owns what is said about a picture: coarse tags that a person would give, and one fine tag for every option.
// A part that cannot be seen, and the colour of such a part, earns no tag.
import { STYLES, isColour } from "./styles.mjs";

// The colour of these options is told only where the part that wears it is seen.
const WEARER = {
  hairColor: "hair",
  eyesColor: "eyes",
  glassesColor: "glasses",
  hatColor: "hat",
  accessoriesColor: "accessories",
  earringsColor: "earrings",
  hairAccessoriesColor: "hairAccessories",
};
const COVERED_BY_MASK = new Set(["smile", "open_mouth", "frown", "teeth"]);
const COVERED_BY_SUNGLASSES = ["closed_eyes", "one_eye_closed", "half-closed_eyes", "heart_eyes"];
const COLOURS = "black brown blonde red orange pink purple blue green aqua grey white yellow".split(" ");
const COLOUR_TAG = new RegExp(`^(${COLOURS.join("|")})_(hair|skin|shirt|eyes|headwear|eyewear)$`);

function partTags(style, option, part) {
  const table = STYLES[style].tags[option] ?? {};
  const byBeginning = Object.entries(table).filter(
    ([key]) => key[0] === "_" && part.startsWith(key.slice(1)),
  );
  return [...(table[part] ?? []), ...byBeginning.flatMap(([, tags]) => tags)];
}

/** The tag of a colour or null: a bald head has no hair colour, open-peeps colours the hair of some heads. */
function colourTag({ style, options, colours }, option) {
  if (option === "headContrastColor") {
    const { coloured, none } = STYLES[style].hairColour;
    if (coloured.includes(options.head)) return colours[option];
    return none.includes(options.head) ? null : "black_hair";
  }
  if (option === "hairColor" && partTags(style, "hair", options.hair)[0] === "bald") return null;
  if (option === "eyesColor" && options.glasses?.includes("dark")) return null;
  return colours[option];
}

/** Tags of `{style, options, colours, hidden}` as two sets, coarse and fine; none of background or frame. */
function characterTags(figure) {
  const { style, options, hidden } = figure;
  const coarse = new Set(["solo"]);
  const fine = new Set();
  for (const [option, part] of Object.entries(options)) {
    if (part === null || hidden.has(option)) continue;
    if (isColour(STYLES[style].identity[option])) {
      const wearer = WEARER[option];
      if (wearer && (options[wearer] === null || hidden.has(wearer))) continue;
      const tag = colourTag(figure, option);
      if (tag) coarse.add(tag);
    } else {
      const masked = options.mask && option === "face";
      for (const tag of partTags(style, option, part))
        if (!(masked && COVERED_BY_MASK.has(tag))) coarse.add(tag);
    }
    fine.add(`${style}_${option}_${part}`);
  }
  return { coarse, fine };
}

/** What follows from other tags: what sunglasses and hats cover, and that something is absent. */
function conclude(coarse, { style, options }) {
  const { identity, pixel } = STYLES[style];
  if (coarse.has("sunglasses")) for (const tag of COVERED_BY_SUNGLASSES) coarse.delete(tag);
  if (coarse.has("hat")) coarse.delete("balding");
  if (!coarse.has("eyewear")) coarse.add("no_glasses");
  const couldHaveBeard = identity.beard || identity.facialHair;
  if (couldHaveBeard && !coarse.has("facial_hair") && !options.mask) coarse.add("no_facial_hair");
  if (pixel) coarse.add("pixel_art");
  const inkOnly = style === "lorelei" && coarse.has("black_hair") && options.skinColor === "ffffff";
  if (style === "notionists" || inkOnly) coarse.add("lineart");
}

/** Sorted `{all, coarse}` tags of a picture; `figure` is {style, options, colours, hidden}. */
export function pictureTags(figure, { layout, behind, grey, animated }) {
  const { coarse, fine } = characterTags(figure);
  conclude(coarse, figure);
  for (const tag of behind.tags) coarse.add(tag);
  if (layout.scale > 1.04) coarse.add("close-up");
  if (layout.scale < 0.6) coarse.add("wide_shot");
  if (grey) {
    for (const tag of [...coarse]) if (COLOUR_TAG.test(tag)) coarse.delete(tag);
    coarse.add("greyscale");
  }
  if (animated) coarse.add("animated");
  return { all: [...coarse, ...fine].sort(), coarse: [...coarse].sort() };
}
