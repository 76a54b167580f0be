// A table that can be sorted and keeps its rows while figures change: focus and selection stay.

import { el, setAttribute, setText } from "./dom.js";

/**
 * `columns`: { key, label, title, value(row) for sorting, text(row), fill(cell, row, parts), numeric }.
 * `onselect(row or null)`: makes the first cell of each row a button.
 */
export class Table {
  constructor({ caption, columns, keyOf, sort, onselect }) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.sort = sort;
    this.onselect = onselect;
    this.selected = null;
    this.rows = new Map();
    this.last = [];
    this.caption = el("caption", null, caption);
    this.body = el("tbody", { role: "rowgroup" });
    this.heads = columns.map((column) => this.head(column));
    this.table = el("table", { role: "table" }, this.caption,
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, this.heads)), this.body);
    this.element = el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
      this.table);
  }

  head(column) {
    const button = el("button", {
      type: "button", title: column.title ?? `Sort by ${column.label}`,
      onclick: () => this.sortBy(column),
    }, column.label);
    const attributes = { scope: "col", role: "columnheader", class: column.numeric ? "number" : null };
    return column.value
      ? el("th", attributes, button)
      : el("th", attributes, column.label);
  }

  sortBy(column) {
    const again = this.sort.key === column.key;
    this.sort = { key: column.key, descending: again ? !this.sort.descending : !!column.numeric };
    this.update(this.last);
  }

  /** Mark a row as selected, or none. */
  select(key) {
    this.selected = key;
    this.update(this.last);
  }

  sorted(rows) {
    const column = this.columns.find((one) => one.key === this.sort.key);
    const sign = this.sort.descending ? -1 : 1;
    const order = (one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      // What has no figure stands last, whichever way.
      if (a === null || b === null) return (a === null) - (b === null);
      const difference = typeof a === "string" ? a.localeCompare(b) : a - b;
      return sign * difference || this.keyOf(one).localeCompare(this.keyOf(other));
    };
    return [...rows].sort(order);
  }

  update(rows) {
    this.last = rows;
    this.columns.forEach((column, index) => {
      const sorted = this.sort.key === column.key;
      const way = this.sort.descending ? "descending" : "ascending";
      setAttribute(this.heads[index], "aria-sort", sorted ? way : null);
    });
    const focused = document.activeElement;
    const seen = new Set();
    let at = this.body.firstElementChild;
    this.shown = this.sorted(rows);
    for (const row of this.shown) {
      const key = this.keyOf(row);
      seen.add(key);
      const kept = this.rows.get(key) ?? this.add(key);
      kept.row = row;
      this.fillRow(kept, key);
      if (kept.element === at) at = at.nextElementSibling;
      else this.body.insertBefore(kept.element, at);
    }
    for (const [key, kept] of this.rows) {
      if (!seen.has(key)) {
        kept.element.remove();
        this.rows.delete(key);
      }
    }
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus();
  }

  add(key) {
    const kept = { row: null, cells: [], parts: [] };
    kept.cells = this.columns.map((column, index) => {
      const attributes = { class: column.numeric ? "number" : null, "data-label": column.label };
      if (index > 0) return el("td", { role: "cell", ...attributes });
      const cell = el("th", { scope: "row", role: "rowheader", ...attributes });
      kept.name = cell;
      if (this.onselect) {
        kept.name = el("button", { type: "button", class: "name" });
        cell.append(kept.name);
      }
      return cell;
    });
    kept.element = el("tr", { role: "row", onclick: () => this.toggle(key) }, kept.cells);
    this.rows.set(key, kept);
    return kept;
  }

  toggle(key) {
    if (!this.onselect) return;
    this.selected = this.selected === key ? null : key;
    this.onselect(this.selected === null ? null : this.rows.get(key).row);
    this.update(this.last);
  }

  fillRow(kept, key) {
    const { row } = kept;
    const selected = this.onselect && key === this.selected;
    setAttribute(kept.element, "class", selected ? "selected" : null);
    if (this.onselect) setAttribute(kept.name, "aria-pressed", String(!!selected));
    this.columns.forEach((column, index) => {
      const target = index === 0 ? kept.name : kept.cells[index];
      if (column.fill) {
        kept.parts[index] ??= {};
        column.fill(target, row, kept.parts[index]);
      } else {
        setText(target, column.text(row));
      }
      if (column.mark) setAttribute(kept.cells[index], "data-mark", column.mark(row));
    });
  }
}
