// Owns what the styles offer: which options make a character (identity) and which change from view to view,
// how often an optional part is there, and each part's tags, given by hand after a look at every variant.
// The order of the options is the order of the random draws: do not sort it.
//
// identity, view: option -> 1 (always there), a probability, or colours as tag -> hex values ("x": no tag).
// tags: option -> part -> tags; a key with an underscore in front is for all parts that begin with the rest.

import { EYES, EYEWEAR, HAIR, HEADWEAR, SHIRTS, SKIN } from "./colours.mjs";

const words = (text) => text.split(" ");

/** Each of `parts` has each of `tags`; both are words. */
const some = (parts, tags) => Object.fromEntries(words(parts).map((part) => [part, words(tags)]));

/** The same for parts named variant01 and so on. */
const variants = (numbers, tags) =>
  Object.fromEntries(words(numbers).map((number) => [`variant${number}`, words(tags)]));

/** One table out of several; a part in two of them has the tags of both, in order. */
function merged(...tables) {
  const result = {};
  for (const table of tables)
    for (const [part, tags] of Object.entries(table)) result[part] = [...(result[part] ?? []), ...tags];
  return result;
}

/** Whether an entry of `identity` holds colours. */
export const isColour = (entry) => typeof entry === "object";

export const STYLES = {
  lorelei: {
    mono: true,
    identity: {
      hair: 1,
      hairColor: HAIR,
      head: 1,
      nose: 1,
      skinColor: { ...SKIN, white_skin: ["ffffff"] },
      eyebrows: 1,
      beard: 0.15,
      earrings: 0.35,
      freckles: 0.15,
      glasses: 0.35,
      hairAccessories: 0.15,
      glassesColor: { black_eyewear: ["000000"], red_eyewear: ["a83232"], blue_eyewear: ["2b5fb0"] },
      earringsColor: { x: ["000000", "d4a017", "c0392b"] },
      hairAccessoriesColor: { x: ["d6336c", "f2c230", "5f6fd8"] },
    },
    view: { mouth: 1, eyes: 1 },
    weights: { hairColor: { black_hair: 6 }, skinColor: { white_skin: 6 } },
    tags: {
      hair: merged(
        variants("01 02 03 04 05 06 07 08 09 11 12 18 20 22 39 43 44 47", "short_hair"),
        variants("10 13 17 19 23 24 32 37", "medium_hair"),
        variants("15 16 21 35 40 41", "long_hair"),
        variants("14 38 45 46", "hair_bun"),
        variants("26", "double_bun"),
        variants("29 31 36 42 48 33", "ponytail"),
        variants("30", "low_twintails"),
        variants("25 28 34", "balding"),
        variants("27", "spiked_hair mohawk"),
        variants("05 24 32 35 39 18", "curly_hair"),
        variants("06 10 11 13 16 19 23 30 42 43 46 48 14 21", "bangs"),
        variants("04 20", "messy_hair"),
      ),
      beard: variants("01 02", "beard facial_hair"),
      earrings: variants("01 02 03", "earrings"),
      freckles: variants("01", "freckles"),
      glasses: merged(variants("01 03 04 05", "glasses eyewear"), variants("02", "sunglasses eyewear")),
      hairAccessories: { flowers: ["hair_flower", "hair_ornament"] },
      mouth: { _happy: ["smile"], _sad: ["frown"] },
      eyes: merged(
        variants("01 19 22", "closed_eyes"),
        variants("15 18", "one_eye_closed"),
        variants("03", "half-closed_eyes"),
      ),
    },
  },
  notionists: {
    bust: true,
    mono: true,
    identity: { hair: 1, body: 1, nose: 1, beard: 0.18, glasses: 0.35, bodyIcon: 0.5, brows: 1 },
    view: { eyes: 1, lips: 1, gesture: 0.25 },
    tags: {
      hair: merged(
        { hat: ["hat", "baseball_cap", "short_hair"] },
        variants("14", "hat"),
        variants(
          "01 03 04 05 06 07 09 11 12 13 15 16 17 18 19 20 21 22 24 25 26 27 31 32 33 34 35 38 40 42 43 44 49 50 51 52 53 54 55 56 60",
          "short_hair",
        ),
        variants("02 10 23 36 37 58", "medium_hair"),
        variants("08 28 41 46", "long_hair"),
        variants("39 45 47", "ponytail"),
        variants("29 48 57", "hair_bun"),
        variants("30 59", "double_bun"),
        variants("61", "turban headwear"),
        variants("62 63", "hijab headwear"),
        variants("08 45 46", "hairband"),
        variants("46", "hair_bow"),
        variants("50 51 52 53", "spiked_hair"),
        variants("09 20 22 31 33 40", "curly_hair"),
      ),
      beard: merged(
        variants("01 02", "beard"),
        variants("01 02 03 04 05 06 07 08 09 10 11 12", "facial_hair"),
      ),
      glasses: merged(
        variants("03 08 11", "glasses eyewear"),
        variants("01 02 04 05 06 07 09 10", "sunglasses eyewear"),
      ),
      bodyIcon: some("electric saturn galaxy", "print_shirt"),
      gesture: merged(
        some("wavePointLongArms waveOkLongArms waveLongArms waveLongArm", "waving hands_up"),
        some("pointLongArm wavePointLongArms", "pointing_up"),
        some("ok okLongArm waveOkLongArms", "ok_sign"),
        some("point hand", "hand_on_own_arm"),
        some("handPhone", "holding_phone"),
      ),
      lips: merged(
        variants("03 17 23", "smile closed_mouth"),
        variants("08 14 25 30 10 16", "smile open_mouth"),
        variants("15 29 07 11 27", "open_mouth"),
        variants("12", "tongue_out"),
        variants("01 02 24", "frown"),
      ),
      body: merged(
        variants("02 04 06 08", "black_jacket"),
        variants("15 22 24", "patterned_clothing"),
        variants("20", "necktie"),
      ),
    },
  },
  "open-peeps": {
    bust: true,
    identity: {
      head: 1,
      skinColor: SKIN,
      clothingColor: SHIRTS,
      headContrastColor: HAIR,
      accessories: 0.4,
      facialHair: 0.25,
    },
    view: { face: 1, mask: 0.04 },
    drop: { head: ["bear"], face: ["cyclops", "monster"] },
    hairColour: {
      coloured: words("bangs grayBun grayMedium grayShort mediumBangs2 mohawk mohawk2 noHair3 short4"),
      none: words("hijab turban noHair1 noHair2 hatBeanie"),
    },
    tags: {
      head: merged(
        some("afro longAfro", "afro"),
        some("bangs bangs2 longBangs mediumBangs mediumBangs2 mediumBangs3", "bangs"),
        some("bun bun2 grayBun", "hair_bun"),
        some("buns bantuKnots", "bantu_knots"),
        some("cornrows cornrows2", "cornrows ponytail"),
        some("dreads1 dreads2 twists twists2", "dreadlocks"),
        some("long longBangs longCurly longAfro", "long_hair"),
        some(
          "medium1 medium2 medium3 mediumBangs mediumBangs2 mediumBangs3 mediumStraight grayMedium bangs bangs2",
          "medium_hair",
        ),
        some(
          "short1 short2 short3 short4 short5 grayShort flatTop flatTopLong pomp shaved1 shaved2 shaved3 afro twists twists2 dreads1 dreads2",
          "short_hair",
        ),
        some("mohawk mohawk2", "mohawk"),
        some("noHair1 noHair2 noHair3", "balding"),
        some("hatBeanie", "beanie hat"),
        some("hatHip", "hat"),
        some("hijab", "hijab headwear"),
        some("turban", "turban headwear"),
        some("longCurly mediumBangs2", "curly_hair"),
      ),
      accessories: merged(
        some("glasses glasses2 glasses3 glasses4 glasses5", "glasses eyewear"),
        some("sunglasses sunglasses2", "sunglasses eyewear"),
        some("eyepatch", "eyepatch"),
      ),
      facialHair: merged(
        some("chin full full2 full3 full4 goatee1 goatee2", "beard"),
        some(
          "moustache1 moustache2 moustache3 moustache4 moustache5 moustache6 moustache7 moustache8 moustache9",
          "mustache",
        ),
        some(
          "chin full full2 full3 full4 goatee1 goatee2 moustache1 moustache2 moustache3 moustache4 moustache5 moustache6 moustache7 moustache8 moustache9",
          "facial_hair",
        ),
      ),
      mask: some("medicalMask respirator", "mask mouth_mask"),
      face: merged(
        some(
          "smile smileBig smileLOL smileTeethGap eatingHappy lovingGrin1 lovingGrin2 cute cheeky",
          "smile",
        ),
        some("rage angryWithFang veryAngry", "angry"),
        some("fear concernedFear concerned", "worried"),
        some("eyesClosed smileBig smileLOL cute", "closed_eyes"),
        some("blank calm serious suspicious", "expressionless"),
        some("lovingGrin1 lovingGrin2", "heart_eyes"),
        some("solemn veryAngry", "frown"),
        some("tired", "tired"),
        some("smileLOL", "tears"),
        some("smileBig smileTeethGap lovingGrin2 hectic", "teeth"),
        some("smileLOL rage lovingGrin1 explaining concerned concernedFear cheeky", "open_mouth"),
      ),
    },
  },
  adventurer: {
    identity: { hair: 1, hairColor: HAIR, skinColor: SKIN, earrings: 0.4, glasses: 0.35, features: 0.3 },
    view: { mouth: 1, eyes: 1, eyebrows: 1 },
    tags: {
      hair: merged(
        some("long01 long02 long03 long05 long21 long24 long25 long26", "medium_hair"),
        some("long04 long06 long07 long08 long09 long17 long18 long20 long22", "long_hair"),
        some("long10 long11 long12 short05", "hair_bun"),
        some("long13 long23", "double_bun"),
        some("long14 long15", "twintails"),
        some("long16", "braid"),
        some("long19", "ponytail"),
        some("long03 long08 long18", "hair_flower hair_ornament"),
        some(
          "short01 short02 short03 short04 short06 short07 short08 short09 short10 short11 short14 short16 short17 short18",
          "short_hair",
        ),
        some("short12 short13", "balding"),
        some("short19", "bald"),
        some("short15", "mohawk"),
        some("short16", "spiked_hair"),
        some("short03 short17 short18 long22 long17 long18 long06", "curly_hair"),
        some("long07 long08 long10 long11 long15 long21 short02 short09 long26", "bangs"),
        some("long20 long25", "hair_over_one_eye"),
      ),
      earrings: variants("01 02 03 04 05 06", "earrings"),
      glasses: merged(variants("02 03 04 05", "glasses eyewear"), variants("01", "sunglasses eyewear")),
      features: {
        mustache: ["mustache", "facial_hair"],
        blush: ["blush"],
        birthmark: ["mole"],
        freckles: ["freckles"],
      },
      mouth: merged(
        variants("02 29", "smile closed_mouth"),
        variants("01 05 25 26 27 28 30", "smile open_mouth"),
        variants("22 23", "smile grin"),
        variants("03 07 13 14 15 18 24 21", "open_mouth"),
        variants("04", "frown"),
        variants("09", "expressionless"),
        variants("11", "clenched_teeth"),
        variants("12 16", "tongue_out"),
        variants("06 08", "lipstick"),
        variants("19", "wavy_mouth"),
      ),
      eyes: merged(variants("19 20", "closed_eyes"), variants("21 22", "one_eye_closed")),
    },
  },
  "pixel-art": {
    bust: true,
    pixel: true,
    identity: {
      hair: 1,
      hairColor: HAIR,
      skinColor: SKIN,
      clothing: 1,
      clothingColor: SHIRTS,
      eyesColor: EYES,
      accessories: 0.3,
      accessoriesColor: { x: ["ffd700", "d3d3d3"] },
      glasses: 0.35,
      glassesColor: EYEWEAR,
      hat: 0.18,
      hatColor: HEADWEAR,
      beard: 0.18,
      mouthColor: { x: ["d29985", "c98276", "de0f0d"] },
    },
    view: { mouth: 1, eyes: 1 },
    minHair: "short23",
    tags: {
      hair: merged(
        some(
          "short01 short02 short03 short04 short06 short08 short09 short10 short11 short13 short14 short15 short16 short17 short19 short22 short24",
          "short_hair",
        ),
        some("short07 short18 short20 short21 short23 short05 short12", "balding"),
        some(
          "long01 long02 long03 long04 long07 long08 long09 long12 long13 long16 long17 long20 long21",
          "long_hair",
        ),
        some("long05", "hair_bun"),
        some("long06", "braid"),
        some("long18 long19", "twintails"),
        some("long10 long11 long14 long15", "medium_hair"),
        some("long15 short11 short13", "curly_hair"),
      ),
      accessories: variants("01 02 03 04", "earrings"),
      glasses: { _dark: ["sunglasses", "eyewear"], _light: ["glasses", "eyewear"] },
      hat: merged(
        variants("01 02 03 04 05 06 07 08 09 10", "hat"),
        variants("02 06 07", "baseball_cap"),
        variants("01 03 04 05 08", "beanie"),
      ),
      beard: variants("01 02 03 04 05 06 07 08", "facial_hair beard"),
      mouth: { _happy: ["smile"], _sad: ["frown"] },
    },
  },
};
