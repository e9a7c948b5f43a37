// Elements out of plain values. Whatever comes from a file's name or a tag is text: nothing here reads markup.

/** An element: `h("div.card", {title: "x", onclick: f}, "text", child)`; false and null are left out. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list" && key !== "form") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

/** Append `children` to `parent`; what is null or false is left out. */
export function fill(parent, ...children) {
  parent.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Give `element` text, touching it only where it is another: a reader's selection stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keep one view for each of `items` (with an `id`) as children of `parent`, in that order. `make(item)` gives
 * {element, update(item)}; what is gone is removed, what is there stays where it can.
 */
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.views = new Map();
  }

  update(items) {
    const ids = new Set(items.map((item) => item.id));
    for (const [id, view] of this.views) {
      if (!ids.has(id)) {
        view.element.remove();
        this.views.delete(id);
      }
    }
    let place = this.parent.firstElementChild;
    for (const item of items) {
      let view = this.views.get(item.id);
      if (!view) {
        view = this.make(item);
        this.views.set(item.id, view);
      }
      view.update(item);
      if (view.element === place) place = place.nextElementSibling;
      else this.parent.insertBefore(view.element, place);
    }
  }
}

/** A line for the user, at the corner, for a few seconds. */
export function toast(text, { bad = false } = {}) {
  const line = h(bad ? "p.toast.bad" : "p.toast", {}, text);
  const lines = document.getElementById("toasts");
  lines.append(line);
  if (lines.matches(":popover-open")) lines.hidePopover();
  lines.showPopover(); // above a dialog that was opened since
  setTimeout(() => {
    line.remove();
    if (!lines.firstChild) lines.hidePopover();
  }, bad ? 9000 : 2500);
}

/** Copy `text`; also where a browser has no clipboard for pages of a plain address. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea.hidden-copy", { value: text, readOnly: true });
    const open = document.querySelector("dialog[open]");
    (open ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`${what} copied`);
}

/** Seconds for people: 8 s, 3 min 20 s. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}
