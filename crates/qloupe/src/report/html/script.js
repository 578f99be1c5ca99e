"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const theme = document.getElementById("theme");
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // Escape closes the panel of a layer, the arrow keys go to the next one.
  document.addEventListener("keydown", (event) => {
    const panel = document.querySelector(".panel:target");
    if (!panel || event.target.closest("input, select")) return;
    const steps = panel.querySelectorAll(".step");
    const link = { Escape: panel.querySelector(".close"), ArrowLeft: steps[0], ArrowRight: steps[1] }[event.key];
    if (link && link.href) {
      event.preventDefault();
      location.hash = link.hash;
    }
  });

  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[1].cells);

  // Cells without a figure are last, whichever way the others go.
  const keyOf = (row, column) => {
    const cell = row.cells.length === heads.length ? row.cells[column] : column < 4 ? row.cells[column] : undefined;
    if (!cell || cell.classList.contains("absent")) return undefined;
    if (cell.dataset.v === undefined) return cell.textContent;
    const number = { inf: Infinity, "-inf": -Infinity, NaN: -Infinity }[cell.dataset.v];
    return number === undefined ? Number(cell.dataset.v) : number;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = rows.map((row) => [keyOf(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        return a === b ? 0 : descending ? compare(b, a) : compare(a, b);
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });

  const [search, op, state, count] = ["search", "op", "state", "count"].map((id) => document.getElementById(id));
  const filter = () => {
    const text = search.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const states = row.dataset.state.split(" ");
      const fits =
        row.cells[1].textContent.toLowerCase().includes(text) &&
        (op.value === "" || row.dataset.op === op.value) &&
        (state.value === "" || states.includes(state.value));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} layers`;
  };
  [search, op, state].forEach((control) => control.addEventListener("input", filter));
  filter();
})();
