// The query box: a condition or tags, with completion, and what is wrong marked where it stands.
// A text area over a mirror of itself: the mirror gives the height and holds the mark, the area holds caret and text.
import { html, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { languageOf } from './address.js';
import { useCompletion } from './complete.js';
import { inSql } from './narrow.js';
import { grouped, quoted, replaced, toUnits } from './text.js';

const PLACEHOLDER = {
  where: "has('1girl') AND rating = 'general'   (empty shows all)",
  tags: '1girl smile -hat rating:g   (empty shows all)',
};

/** The text with the characters `at` fault marked; the error's own place, never a search for its words. */
function Mirror({ text, at }) {
  if (!at) return html`<div class="mirror" aria-hidden="true">${text}${'\n'}</div>`;
  const [start, end] = [toUnits(text, at[0]), toUnits(text, at[1])];
  return html`<div class="mirror" aria-hidden="true">${text.slice(0, start)}<mark class="fault">${
    text.slice(start, end) || ' '}</mark>${text.slice(end)}${'\n'}</div>`;
}

function Completions({ state, onTake }) {
  if (!state.items.length) return null;
  return html`<ul class="menu completions" id="completions" role="listbox">
    ${state.items.map((item, index) => html`<li key=${`${item.kind} ${item.insert}`} id=${`completion-${index}`} role="option"
      class=${`kind-${item.kind}`} aria-selected=${index === state.active}
      onMouseDown=${(event) => { event.preventDefault(); onTake(item); }}>
      <span class="label">${item.label}</span><span class="quiet small">${item.kind}</span>
      <span class="number">${item.count === null || item.count === undefined ? '' : grouped(item.count)}</span>
    </li>`)}
  </ul>`;
}

/** What is wrong with the question, and the nearest names as buttons. */
function Problem({ mistake, isTyped, onNear }) {
  if (!mistake) return null;
  return html`<p class="problem mistake" role="alert">${mistake.message}
    ${isTyped && mistake.at && mistake.near.length > 0 && html`<span class="near"> ${mistake.near.map((name) => html`
      <button type="button" key=${name} onClick=${() => onNear(name)}>${name}</button>`)}</span>`}
  </p>`;
}

/** The keys of the box: the list's while it is open, else Enter asks and Escape leaves. */
function keysOf({ completion, take, submit, leave }) {
  return (event) => {
    const { items, active } = completion.state;
    const done = () => event.preventDefault();
    if (event.isComposing) return;
    if (items.length && event.key === 'ArrowDown') { completion.step(1); done(); }
    else if (items.length && event.key === 'ArrowUp') { completion.step(-1); done(); }
    else if (items.length && event.key === 'Tab' && !event.shiftKey) { take(items[Math.max(0, active)]); done(); }
    else if (event.key === 'Enter' && !event.shiftKey) { if (active >= 0) take(items[active]); else submit(); done(); }
    else if (event.key === 'Escape') { if (items.length) completion.close(); else leave(); event.stopPropagation(); }
  };
}

/**
 * `ask` is what the page shows; `onAsk(language, text, beside)` asks anew, `beside` what tags said beside their condition;
 * `compiled` is what they became, where that is known.
 */
export function SearchBox({ ask, mistake, compiled, onAsk, onLeave }) {
  const [language, setLanguage] = useState(languageOf(ask));
  const [text, setText] = useState('');
  const asked = ask[languageOf(ask)] ?? '';
  const area = useRef(null);
  const beside = useRef({}); // the order and limit of tags whose SQL stands in the box
  const completion = useCompletion();
  const { state } = completion;

  useEffect(() => {
    setText(asked);
    if (asked) setLanguage(languageOf(ask));
    beside.current = {};
    completion.close();
  }, [asked, ask.tags === undefined]);
  useEffect(() => { delete beside.current.order; }, [ask.order]); // chosen anew meanwhile
  useEffect(() => { delete beside.current.limit; }, [ask.limit]);

  const put = (next, caret) => {
    setText(next);
    const { current } = area;
    current.value = next;
    current.setSelectionRange(caret, caret);
    current.focus();
  };
  const submit = () => { completion.close(); onAsk(language, area.current.value.trim(), beside.current); };
  const take = (item) => {
    const next = replaced(state.text, state.start, state.end, item.insert);
    completion.close();
    put(next.text, next.caret);
  };
  const turn = (to) => {
    if (to === language) return;
    setLanguage(to);
    completion.close();
    beside.current = {};
    if (to === 'where' && text === asked && languageOf(ask) === 'tags' && compiled) {
      const { where, order, limit } = inSql(ask, compiled);
      setText(where);
      beside.current = { order, limit };
    }
    area.current.focus();
  };
  const isTyped = Boolean(mistake) && text === asked;
  const at = isTyped && mistake.at;
  const repair = (name) => {
    const wasQuoted = [...text][at[0]] === "'";
    const next = replaced(text, ...at, wasQuoted ? quoted(name) : name);
    put(next.text, next.caret);
  };
  return html`<form class="search" role="search" onSubmit=${(event) => { event.preventDefault(); submit(); }}>
    <div class="languages" role="group" aria-label="Language">
      ${[['where', 'SQL'], ['tags', 'Tags']].map(([key, name]) => html`<button type="button" key=${key}
        aria-pressed=${language === key} onClick=${() => turn(key)}>${name}</button>`)}
    </div>
    <div class="field">
      <${Mirror} text=${text} at=${at} />
      <textarea ref=${area} id="query" rows="1" spellcheck="false" autocomplete="off" autocapitalize="off"
        role="combobox" aria-label="Query" aria-expanded=${state.items.length > 0} aria-controls="completions"
        aria-activedescendant=${state.active >= 0 ? `completion-${state.active}` : ''} aria-invalid=${Boolean(at)}
        placeholder=${PLACEHOLDER[language]} value=${text}
        onInput=${(event) => {
          setText(event.target.value);
          completion.ask(event.target.value, event.target.selectionStart, language);
        }}
        onKeyDown=${keysOf({ completion, take, submit, leave: onLeave })}
        onBlur=${completion.close}></textarea>
      <${Completions} state=${state} onTake=${take} />
    </div>
    <button type="submit" class="main">Search</button>
    <${Problem} mistake=${mistake} isTyped=${isTyped} onNear=${repair} />
  </form>`;
}
