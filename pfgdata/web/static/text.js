// Numbers, sizes and quoted words as people read them, and offsets as Python counts them.
// The server counts characters (code points); the browser counts UTF-16 units. Everything that crosses is turned here.

const NUMBER = new Intl.NumberFormat('en-US');

/** 598016 -> "598,016". */
export const grouped = (number) => NUMBER.format(number);

/** "1 image", "240 images". */
export const counted = (number, word) => `${grouped(number)} ${word}${number === 1 ? '' : 's'}`;

/** A size in bytes as "512 B", "1.4 MB". */
export function fileSize(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** 0.0312 -> "31 ms", 2.4 -> "2.4 s". */
export const duration = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

/** A text as SQL quotes it. */
export const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** A tag as people read it. */
export const spaced = (tag) => (tag.length > 3 ? tag.replaceAll('_', ' ') : tag);

/** How many code points stand before the UTF-16 unit `unit` of `text`. */
export const toCharacters = (text, unit) => [...text.slice(0, unit)].length;

/** The UTF-16 unit at which the character `character` of `text` begins. */
export const toUnits = (text, character) => [...text].slice(0, character).join('').length;

/** `text` with what stands from character `start` to `end` replaced; also the unit behind what was put in. */
export function replaced(text, start, end, insert) {
  const before = text.slice(0, toUnits(text, start));
  return { text: before + insert + text.slice(toUnits(text, end)), caret: before.length + insert.length };
}
