"use strict";

// ---- Tables: a click on a head sorts by it, a second one turns the order round ------

function sortBy(head) {
  const row = head.parentElement;
  const body = row.closest("table").tBodies[0];
  const column = [...row.children].indexOf(head);
  const number = head.classList.contains("number");
  const up = head.ariaSort ? head.ariaSort === "descending" : !number;
  const value = (tr) => {
    const cell = tr.children[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return number ? null : cell.textContent;
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order =
      typeof x === "number" && typeof y === "number"
        ? x - y
        : String(x).localeCompare(String(y), undefined, { numeric: true });
    return up ? order : -order;
  };
  for (const other of row.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
}

for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

// ---- Tips ---------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(x + 14, document.documentElement.clientWidth - box.width - 8);
  const above = y - box.height - 12;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}

for (const mark of document.querySelectorAll("[data-tip]")) {
  mark.addEventListener("pointerenter", (event) =>
    showTip(mark.dataset.tip, event.clientX, event.clientY));
  mark.addEventListener("pointerleave", hideTip);
  if (mark.hasAttribute("tabindex")) {
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      showTip(mark.dataset.tip, box.right, box.top);
    });
    mark.addEventListener("blur", hideTip);
  }
}
document.addEventListener("scroll", hideTip, { passive: true });

// ---- Heat maps: choose a run; hover to read a radius --------------------------------

for (const figure of document.querySelectorAll(".heatmaps")) {
  const maps = [...figure.querySelectorAll(".heatmap")];
  const select = figure.querySelector("select");
  const show = () => maps.forEach((map, i) => { map.hidden = String(i) !== select.value; });
  select.addEventListener("change", show);
  show(); // a browser may have kept the choice of an earlier visit

  for (const map of maps) {
    const radii = JSON.parse(map.querySelector("script").textContent);
    const image = map.querySelector(".heat");
    if (!image) continue;
    image.addEventListener("pointermove", (event) => {
      const box = image.getBoundingClientRect();
      const at = (share, n) => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
      const row = at((event.clientY - box.top) / box.height, radii.layers.length);
      const column = at((event.clientX - box.left) / box.width, radii.steps.length);
      const text = `${radii.layers[row]}, step ${radii.steps[column]}: radius ${radii.values[row][column]}`;
      showTip(text, event.clientX, event.clientY);
    });
    image.addEventListener("pointerleave", hideTip);
  }
}
