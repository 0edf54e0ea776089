"use strict";
// Tables sort by a click on a heading; sliders show one gallery at a time. Nothing is fetched or built from text as HTML.

const NUMBER = /[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?/;

function valueOf(cell) {
  const found = cell.textContent.match(NUMBER);
  return found ? Number(found[0].replace(/,/g, "").replace("\u2212", "-")) : NaN;
}

function compare(one, other, column, numbers, sign) {
  const pair = [one, other].map((row) => row.cells[column]);
  if (!numbers) return sign * pair[0].textContent.localeCompare(pair[1].textContent);
  const [a, b] = pair.map(valueOf);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b)); // dashes last
  return sign * (a - b);
}

function sort(table, heading, column) {
  const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.getAttribute("aria-sort")];
  for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", next);
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    const shown = rows.map((row) => row.cells[column].textContent.trim());
    const numbers = column > 0 && shown.some((text) => /^[-+\u2212[(]?\d/.test(text));
    rows.sort((a, b) => Number(a.dataset.place) - Number(b.dataset.place));
    if (next !== "none") rows.sort((a, b) => compare(a, b, column, numbers, next === "ascending" ? 1 : -1));
    body.append(...rows);
  }
}

for (const table of document.querySelectorAll("table")) {
  for (const body of table.tBodies) [...body.rows].forEach((row, place) => { row.dataset.place = place; });
  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heading, column));
  });
}

for (const slider of document.querySelectorAll(".slider")) {
  const steps = [...slider.querySelectorAll(".step")];
  const input = document.createElement("input");
  const label = document.createElement("label");
  const output = document.createElement("output");
  Object.assign(input, { type: "range", min: 0, max: steps.length - 1, step: 1 });
  input.value = slider.dataset.start;
  label.append(slider.dataset.of, input, output);
  const show = () => {
    steps.forEach((step, place) => { step.hidden = place !== Number(input.value); });
    output.textContent = steps[Number(input.value)].dataset.label;
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", show);
  slider.prepend(label);
  slider.classList.add("live");
  show();
}
