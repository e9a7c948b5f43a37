// What a half-typed word may become: asked of the server while a person types, walked through with the arrow keys.
import { useEffect, useRef, useState } from './vendor/htm-preact.js';
import * as api from './api.js';
import { isAbort } from './api.js';
import { toCharacters } from './text.js';

const REST = 70; // ms without a key before the server is asked
const NOTHING = { items: [], start: 0, end: 0, active: -1 };

/** The list of completions: `state`, `ask(text, caret, language)`, `step(by)` and `close()`. */
export function useCompletion() {
  const [state, setState] = useState(NOTHING);
  const running = useRef({ timer: 0, control: null });

  const stop = () => {
    clearTimeout(running.current.timer);
    running.current.control?.abort();
  };
  const close = () => { stop(); setState(NOTHING); };
  const ask = (text, caret, language) => {
    stop();
    running.current.timer = setTimeout(async () => {
      const control = new AbortController();
      running.current.control = control;
      try {
        const found = await api.complete(text, toCharacters(text, caret), language === 'tags' ? 'tags' : 'sql', control.signal);
        if (!control.signal.aborted) setState({ ...found, text, active: -1 });
      } catch (error) {
        if (!isAbort(error)) setState(NOTHING); // a list that does not come is no reason to disturb whoever types
      }
    }, REST);
  };
  const step = (by) => setState((old) => {
    const size = old.items.length + 1; // one place is "none of them"
    return { ...old, active: ((old.active + 1 + by + size) % size) - 1 };
  });
  useEffect(() => stop, []);
  return { state, ask, step, close };
}
