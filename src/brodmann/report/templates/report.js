"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const numeric = table.tBodies[0].rows[0]?.cells[column].hasAttribute("data-v");
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (numeric && (x === "" || y === "")) return (x === "") - (y === "");
      return sign * (numeric ? x - y : x.localeCompare(y));
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const panel of document.querySelectorAll(".panel")) {
  const button = panel.querySelector(".enlarge");
  const toggle = () => {
    const large = panel.classList.toggle("large");
    button.textContent = large ? "reduce" : "enlarge";
  };
  button.hidden = false;
  button.addEventListener("click", toggle);
  panel.querySelector("svg").addEventListener("click", toggle);
}
for (const card of document.querySelectorAll(".panels")) {
  const light = id => card.querySelectorAll(".regions path").forEach(
    path => path.classList.toggle("lit", id !== undefined && path.dataset.r === id));
  card.addEventListener("pointerover", event => light(event.target.dataset?.r));
  card.addEventListener("pointerleave", () => light(undefined));
}
