// Every key of the page in one list: what it does here, what the help says of it.

/** `[keys, what they do, which handler]`, by where they work. */
export const KEYS = {
  'In the grid': [
    [['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown'], 'go to the next image', 'move'],
    [['PageUp', 'PageDown', 'Home', 'End'], 'go a page, to the first, to the last', 'move'],
    [['Enter'], 'open the image', 'open'],
    [['s'], 'select it', 'select'],
    [['x'], 'exclude it', 'exclude'],
    [['z'], 'look at it closely: wheel, + and - zoom, 0 fits', 'closely'],
    [['g'], 'go to the image of a number', 'goTo'],
  ],
  Anywhere: [
    [['/'], 'type a query', 'search'],
    [['c'], 'copy the question as address, command or condition', 'copy'],
    [['d'], 'review duplicates', 'duplicates'],
    [['Escape'], 'close what is open', 'close'],
    [['?'], 'show these keys', 'help'],
  ],
  'Reviewing duplicates': [
    [['ArrowUp', 'ArrowDown'], 'the next pair', ''],
    [['f'], 'side by side, or one over the other', ''],
    [[' '], 'the other of the two', ''],
    [['1'], 'they are different pictures', ''],
    [['2'], 'keep both', ''],
    [['0'], 'take the verdict back', ''],
  ],
};

const NAMES = {
  ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', ' ': 'Space', Escape: 'Esc', PageUp: 'Page ↑', PageDown: 'Page ↓',
};

/** How a key is written on the keyboard. */
export const keyName = (key) => NAMES[key] ?? key;

const isTyping = (target) => target.matches?.('input:not([type=range]):not([type=checkbox]), textarea, select');

/** Call `handlers.current[name](event)` for the keys of the grid and of anywhere; returns what ends that. */
export function listen(handlers) {
  const names = new Map();
  for (const place of ['In the grid', 'Anywhere']) {
    for (const [keys, , name] of KEYS[place]) for (const key of keys) names.set(key, name);
  }
  const heard = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const name = names.get(event.key);
    const target = event.target;
    if (!name || (isTyping(target) && event.key !== 'Escape') || document.querySelector('dialog[open]')) return;
    const isOwn = target.matches?.('input[type=range]') || (event.key === 'Enter' && target.matches?.('button, a'));
    if (isOwn) return; // a slider's arrows and a button's Enter are their own
    if (handlers.current[name]?.(event) !== false) event.preventDefault();
  };
  window.addEventListener('keydown', heard);
  return () => window.removeEventListener('keydown', heard);
}
