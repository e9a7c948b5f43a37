// The same question as an address, a command and a condition: each shown, each with a button that copies it.
import { html, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { copyText, useLatest } from './hooks.js';
import { queryString } from './address.js';

/** A button that copies `text` and says so. */
export function CopyButton({ text, label = 'Copy', title = '' }) {
  const [said, setSaid] = useState('');
  const copy = async () => {
    setSaid((await copyText(text)) ? 'Copied' : 'Select it by hand');
    setTimeout(() => setSaid(''), 1500);
  };
  return html`<button type="button" class="copy" title=${title || text} onClick=${copy}>${said || label}</button>`;
}

function entries(answer) {
  const { commands } = answer.facts;
  return [
    ['Address', `${location.origin}${location.pathname}${queryString(answer.ask)}`],
    ['Command', commands.query],
    ['Condition', commands.where],
    ['Latents of these', commands.latents],
    ['Training on these', commands.fit],
  ].filter(([, text]) => text);
}

const isCut = (ask) => Boolean(ask.sample || ask.limit);

/** The menu of what can be copied of an answer. */
export function CopyMenu({ answer, open, onToggle }) {
  const box = useRef(null);
  const toggle = useLatest(onToggle);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => { if (!box.current?.contains(event.target)) toggle.current(false); };
    document.addEventListener('pointerdown', away);
    box.current.querySelector('.menu button')?.focus();
    return () => document.removeEventListener('pointerdown', away);
  }, [open]);
  return html`<div class="dropdown" ref=${box}>
    <button type="button" class="copy-menu" aria-expanded=${open} disabled=${!answer}
      title="Copy this question (c)" onClick=${() => onToggle(!open)}>Copy as</button>
    ${open && answer && html`<div class="menu copies" role="dialog" aria-label="Copy this question">
      ${entries(answer).map(([name, text]) => html`<div class="entry" key=${name} data-copy=${name}>
        <span class="quiet small">${name}</span>
        <code>${text}</code>
        <${CopyButton} text=${text} />
      </div>`)}
      ${isCut(answer.ask) && html`<p class="quiet small">A sample or a limit is no condition: save it as a selection, then @NAME is one.</p>`}
    </div>`}
  </div>`;
}
