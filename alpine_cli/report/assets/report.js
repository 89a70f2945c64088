"use strict";
// Tables sort by a click or a key on their heads; notes of cells open where there is no hovering.
// Without this script the page shows everything but the notes, which are titles as well.

function valueOf(cell) {
  const text = cell.dataset.value;
  if (text !== undefined) return Number(text);
  const words = cell.textContent.trim();
  return words === "" || cell.classList.contains("absent") ? null : words;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [valueOf(row.cells[column]), row]);
  rows.sort(([a], [b]) => {
    // What is absent stands last in either direction.
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending ? 1 : -1);
    });
  });
}

for (const noted of document.querySelectorAll(".noted")) {
  const note = noted.nextElementSibling;
  noted.setAttribute("role", "button");
  noted.setAttribute("tabindex", "0");
  noted.setAttribute("aria-expanded", "false");
  const toggle = () => {
    note.hidden = !note.hidden;
    noted.setAttribute("aria-expanded", String(!note.hidden));
  };
  noted.addEventListener("click", toggle);
  noted.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      toggle();
    }
  });
}
