// Draws one corpus: `node draw.mjs NAME FOLDER` writes the pictures into FOLDER and FOLDER.jsonl beside it,
// a line a picture in the order of styles, characters, views. What each corpus is stands in corpora.json.
import fs from "node:fs";
import path from "node:path";
import { character, picture } from "./picture.mjs";

const CORPORA = JSON.parse(fs.readFileSync(new URL("corpora.json", import.meta.url), "utf8"));
const REPORT_EVERY = 400;

/** Every character of the corpus, style by style. */
function* characters({ styles, letter, characters: count }) {
  for (const style of styles)
    for (let number = 0; number < count; number++) yield [number, character(style, { letter, number })];
}

/** Write one picture below `folder`; its line for the JSONL. Ten characters share a folder. */
function write(folder, drawn, { style, name, number, view }) {
  const tens = String(Math.floor(number / 10)).padStart(2, "0");
  const relative = `${style}/${tens}/${drawn.name}.${drawn.extension}`;
  const file = path.join(folder, relative);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, drawn.bytes);
  const { all, coarse } = drawn.tags;
  return JSON.stringify({
    path: relative,
    style,
    character: name,
    view,
    tags: all,
    tags_coarse: coarse,
    size: drawn.size,
  });
}

async function main(name, folder) {
  const corpus = CORPORA[name];
  if (!corpus || !folder) throw new Error(`usage: node draw.mjs ${Object.keys(CORPORA).join("|")} FOLDER`);
  const total = corpus.styles.length * corpus.characters * corpus.views;
  const lines = [];
  for (const [number, who] of characters(corpus))
    for (let view = 0; view < corpus.views; view++) {
      const drawn = await picture(who, view, corpus);
      lines.push(write(folder, drawn, { style: who.style, name: who.name, number, view }));
      if (lines.length % REPORT_EVERY === 0 || lines.length === total)
        console.error(`${name}: ${lines.length}/${total} pictures`);
    }
  fs.writeFileSync(`${folder}.jsonl`, lines.map((line) => `${line}\n`).join(""));
}

try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
