// What several panes of the page do alike: load something for as long as it is wanted, wait for a hand to rest, copy a text.
import { useEffect, useLayoutEffect, useRef, useState } from './vendor/htm-preact.js';
import { isAbort } from './api.js';

/**
 * What `load(signal)` came to: `{value, error, busy}`. Loaded anew when `keys` change; an answer that comes after that is
 * dropped, so a slow one never overwrites a later one. With `keep` the old value stands until the new one is there.
 */
export function useLoaded(load, keys, { keep = false } = {}) {
  const [state, setState] = useState({ value: null, error: null, keys: null });
  useEffect(() => {
    const control = new AbortController();
    const settle = (value, error) => { if (!control.signal.aborted) setState({ value, error, keys }); };
    Promise.resolve(load(control.signal)).then(
      (value) => settle(value, null),
      (error) => { if (!isAbort(error)) settle(null, error); },
    );
    return () => control.abort();
  }, keys);
  const isNow = state.keys?.every((key, index) => key === keys[index]) ?? false;
  if (isNow) return { value: state.value, error: state.error, busy: false };
  return { value: keep ? state.value : null, error: null, busy: true };
}

/** `value` once it has not changed for `ms`. */
export function useRested(value, ms) {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return rested;
}

/** A ref whose function is always the newest: for listeners that are added once. */
export function useLatest(value) {
  const ref = useRef(value);
  ref.current = value;
  return ref;
}

/** A ref for a `<dialog>` that opens as it appears. */
export function useDialog() {
  const ref = useRef(null);
  useLayoutEffect(() => { if (!ref.current.open) ref.current.showModal(); }, []);
  return ref;
}

/** Put `text` on the clipboard; whether that worked. Beyond 127.0.0.1 and https a browser has only the old way. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* not allowed, or not a secure page */ }
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}
