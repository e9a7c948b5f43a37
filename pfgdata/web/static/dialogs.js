// Small dialogs: the keys, a row to go to, a name for a selection.
import { html, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { CopyButton } from './copy.js';
import { useDialog } from './hooks.js';
import { KEYS, keyName } from './keys.js';
import { counted } from './text.js';

/** All keys. */
export function Help({ onClose }) {
  const dialog = useDialog();
  return html`<dialog ref=${dialog} class="help" onClose=${onClose} aria-label="Keys">
    <header><h2>Keys</h2><button type="button" class="close" aria-label="Close" onClick=${() => dialog.current.close()}>×</button></header>
    <div class="columns">${Object.entries(KEYS).map(([place, keys]) => html`<section key=${place}><h3>${place}</h3>
      <dl>${keys.map(([names, does]) => html`<div key=${does}><dt>${names.map((name) => html`<kbd key=${name}>${keyName(name)}</kbd> `)}</dt>
        <dd>${does}</dd></div>`)}</dl></section>`)}</div>
    <p class="quiet small">Ctrl-click selects, Shift-click selects up to there. The address is the query: bookmark it, send it.</p>
  </dialog>`;
}

/** Asks for a number from 1 to `count`. */
export function GoTo({ count, onGo, onClose }) {
  const dialog = useDialog();
  const submit = (event) => {
    onGo(Number(event.target.elements.row.value) - 1);
    dialog.current.close();
    event.preventDefault();
  };
  return html`<dialog ref=${dialog} class="goto" onClose=${onClose} aria-label="Go to an image">
    <form onSubmit=${submit}><label>Image of ${counted(count, 'image')}
      <input name="row" type="number" min="1" max=${count} required autofocus /></label>
      <button type="submit" class="main">Go</button></form></dialog>`;
}

function Saved({ saved, onShow }) {
  return html`<p>Saved <b>@${saved.name}</b>, ${counted(saved.images, 'image')}.</p>
    ${saved.command && html`<p><code>${saved.command}</code> <${CopyButton} text=${saved.command} /></p>`}
    <button type="button" class="main" onClick=${() => onShow(saved.name)}>Show @${saved.name}</button>`;
}

/** Saves the answer, without what is excluded, or only what is selected, under a name. */
export function Save({ answer, marks, onSaved, onShow, onClose }) {
  const dialog = useDialog();
  const [only, setOnly] = useState(marks.selected.size > 0);
  const [state, setState] = useState({});
  const exclude = [...marks.excluded];
  const isFrozen = only || exclude.length > 0;
  const submit = async (event) => {
    event.preventDefault();
    const { name, freeze, replace } = event.target.elements;
    setState({ busy: true });
    try {
      const saved = await api.saveSelection({
        name: name.value.trim().replace(/^@/, ''), ask: answer.ask, exclude: only ? [] : exclude,
        only: only ? [...marks.selected] : null, freeze: isFrozen || freeze.checked, replace: replace.checked,
      });
      setState({ saved });
      onSaved();
    } catch (error) {
      setState({ error });
    }
  };
  return html`<dialog ref=${dialog} class="save" onClose=${onClose} aria-label="Save a selection">
    <header><h2>Save a selection</h2><button type="button" class="close" aria-label="Close" onClick=${() => dialog.current.close()}>×</button></header>
    ${state.saved ? html`<${Saved} saved=${state.saved} onShow=${(name) => { dialog.current.close(); onShow(name); }} />` : html`
    <form onSubmit=${submit}>
      <label>Name <input name="name" required autocomplete="off" autofocus placeholder="hats" /></label>
      ${marks.selected.size > 0 && html`<label><input type="radio" name="what" checked=${only} onChange=${() => setOnly(true)} />
        the ${counted(marks.selected.size, 'image')} that you selected</label>
      <label><input type="radio" name="what" checked=${!only} onChange=${() => setOnly(false)} /> all shown${
        exclude.length ? ` but the ${exclude.length} excluded` : ''}</label>`}
      ${!marks.selected.size && html`<p>${counted(answer.count, 'image')}${exclude.length ? `, but the ${exclude.length} excluded` : ''}</p>`}
      <label><input type="checkbox" name="freeze" checked=${isFrozen} disabled=${isFrozen} /> frozen: the images of this moment</label>
      <label><input type="checkbox" name="replace" /> replace one of this name</label>
      ${state.error && html`<p class="problem" role="alert">${state.error.message}</p>`}
      <button type="submit" class="main" disabled=${state.busy}>Save</button>
    </form>`}
  </dialog>`;
}
