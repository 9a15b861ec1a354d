/**
 * Rows on the page that follow values, and touch the page only where a value
 * has changed.  Text goes in as text: nothing here makes markup of a string.
 */

export const byId = (id) => document.getElementById(id);

const seen = new WeakMap();

function changed(node, name, value) {
  let values = seen.get(node);
  if (values === undefined) seen.set(node, (values = new Map()));
  if (values.get(name) === value) return false;
  values.set(name, value);
  return true;
}

export function text(node, value) {
  if (changed(node, "text", value)) node.textContent = value;
}

export function attribute(node, name, value) {
  if (changed(node, name, value)) node.setAttribute(name, value);
}

export function hide(node, hidden) {
  // An element of SVG has no property "hidden".
  if (changed(node, "hidden", hidden)) node.toggleAttribute("hidden", hidden);
}

/** Fill a bar's part, 0 to 1. */
export function fill(node, fraction) {
  const value = Math.round(Math.min(Math.max(fraction || 0, 0), 1) * 1000) / 1000;
  if (changed(node, "fill", value)) node.style.transform = `scaleX(${value})`;
}

export function grow(node, share) {
  if (changed(node, "grow", share)) node.style.flexGrow = share;
}

/** A text that may be empty: then its place is hidden. */
export function optional(node, value) {
  hide(node, !value);
  text(node, value ?? "");
}

/** The elements of a row by their first class. */
export function parts(element) {
  const found = { element };
  for (const node of element.querySelectorAll("[class]")) found[node.classList[0]] ??= node;
  return found;
}

/** A list of rows, one for each value, by key. */
export class Rows {
  #rows = new Map();

  /**
   * @param parent holds the rows and nothing else
   * @param template the id of the template of one row
   * @param show called with (parts, value, position) to update a row
   * @param made called with (parts, key) for a new row
   */
  constructor(parent, template, show, made = () => {}) {
    this.parent = parent;
    this.template = byId(template).content.firstElementChild;
    this.show = show;
    this.made = made;
  }

  /** Show these values, in this order; the first one has this position. */
  set(values, key, first = 0) {
    const gone = new Map(this.#rows);
    let next = this.parent.firstElementChild;
    values.forEach((value, position) => {
      const name = key(value, position);
      let row = this.#rows.get(name);
      if (row === undefined) {
        row = parts(this.template.cloneNode(true));
        this.#rows.set(name, row);
        this.made(row, name);
      }
      gone.delete(name);
      this.show(row, value, first + position);
      if (row.element === next) next = next.nextElementSibling;
      else this.parent.insertBefore(row.element, next);
    });
    for (const [name, row] of gone) {
      row.element.remove();
      this.#rows.delete(name);
    }
  }
}

/** A list that scrolls by itself, and has rows for the part that is seen alone. */
export class Window {
  #values = [];
  /** The heights of rows by key, and that of one that was not drawn yet. */
  #heights = new Map();
  #usual = 88;
  #keys = new WeakMap();
  #late = false;

  /** @param rows the rows; their parent is inside the element that scrolls */
  constructor(rows, key) {
    this.rows = rows;
    this.key = key;
    this.frame = rows.parent.parentElement;
    this.frame.addEventListener("scroll", () => this.#draw(), { passive: true });
    const sizes = new ResizeObserver((entries) => this.#measured(entries));
    rows.made = ({ element }, name) => {
      this.#keys.set(element, name);
      sizes.observe(element);
    };
  }

  /** Show these values, in this order. */
  set(values) {
    this.#values = values;
    if (this.#heights.size > 2 * values.length + 200) {
      const known = new Set(values.map(this.key));
      for (const name of this.#heights.keys()) if (!known.has(name)) this.#heights.delete(name);
    }
    this.#draw();
  }

  #measured(entries) {
    for (const { target, borderBoxSize } of entries) {
      const height = borderBoxSize[0].blockSize;
      // A row that was removed has none.
      if (height) this.#heights.set(this.#keys.get(target), height);
    }
    if (this.#late) return;
    this.#late = true;
    requestAnimationFrame(() => {
      this.#late = false;
      this.#draw();
    });
  }

  #draw() {
    const values = this.#values;
    const high = (value) => this.#heights.get(this.key(value)) ?? this.#usual;
    const { scrollTop, clientHeight } = this.frame;
    let [first, above, below] = [0, 0, 0];
    while (first < values.length - 1 && above + high(values[first]) < scrollTop - 350) above += high(values[first++]);
    let [end, reached] = [first, above];
    while (end < values.length && reached < scrollTop + clientHeight + 350) reached += high(values[end++]);
    for (let i = end; i < values.length; i++) below += high(values[i]);
    this.rows.set(values.slice(first, end), this.key, first);
    if (changed(this.rows.parent, "above", above)) this.rows.parent.style.paddingTop = `${above}px`;
    if (changed(this.rows.parent, "below", below)) this.rows.parent.style.paddingBottom = `${below}px`;
  }
}
