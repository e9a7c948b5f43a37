// Owns randomness: a named generator, the same numbers for the same name on every machine.
// Each picture is a function of its name, so any subset drawn alone equals its part of the whole. The order
// of draws is part of the format: a draw added in front moves everything behind it.
import crypto from "node:crypto";

/** Mulberry32 seeded by the first four bytes of SHA-256 of `name`: calling it gives a number in [0, 1). */
function mulberry32(name) {
  let state = crypto.createHash("sha256").update(name).digest().readUInt32LE(0);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** The generator `name`: a function with .pick(list), .uniform(a, b), .integer(a, b), .weighted(object). */
export function generator(name) {
  const random = mulberry32(name);
  random.pick = (list) => list[Math.floor(random() * list.length)];
  random.uniform = (low, high) => low + (high - low) * random();
  random.integer = (low, high) => Math.floor(random.uniform(low, high + 1));
  random.weighted = (weights) => {
    const entries = Object.entries(weights);
    let left = entries.reduce((sum, entry) => sum + entry[1], 0) * random();
    for (const [key, weight] of entries) {
      left -= weight;
      if (left < 0) return key;
    }
    return entries.at(-1)[0];
  };
  return random;
}
