"use strict";
// The page is whole without this script; it adds the theme switch, the texts of marks, search and sort.

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function addThemeSwitch() {
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const button = make("button", { id: "theme", type: "button", textContent: "Dark mode" });
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);
  const show = () => button.setAttribute("aria-pressed", isDark());
  try {
    const saved = localStorage.getItem("dataprune-theme");
    if (saved) root.dataset.theme = saved;
  } catch { /* storage may be off; the choice then lasts as long as the page */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("dataprune-theme", root.dataset.theme); } catch { /* as above */ }
    show();
  });
  systemIsDark.addEventListener("change", show);
  document.querySelector("header").append(button);
  show();
}

function addTips() {
  const tip = document.getElementById("tip");
  const spoken = document.getElementById("spoken-tip");
  const hide = () => { tip.hidden = true; };
  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + box.height + 24 > innerHeight ? y - box.height - 14 : y + 14}px`;
  };
  const showBeside = (mark) => {
    const box = mark.getBoundingClientRect();
    show(mark, box.right, box.top);
  };
  for (const type of ["pointerover", "pointermove"]) {
    document.addEventListener(type, (event) => {
      const mark = event.target.closest?.("[data-tip]");
      if (mark) show(mark, event.clientX, event.clientY);
      else if (!document.querySelector(".current")) hide();
    });
  }
  document.addEventListener("pointercancel", hide); // a finger that began to scroll
  document.addEventListener("scroll", () => {
    const mark = document.querySelector(".current");
    if (mark) showBeside(mark); // under a mouse, the browser says anew what lies there
  }, true);
  for (const svg of document.querySelectorAll("svg")) {
    const marks = [...svg.querySelectorAll("[data-tip]")];
    let at = -1;
    const leave = () => {
      marks[at]?.classList.remove("current");
      hide();
    };
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "application"); // else screen readers keep the arrow keys to themselves
    svg.setAttribute("aria-roledescription", "chart");
    svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")}. Arrow keys step through its marks.`);
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 };
      if (event.key === "Escape") leave();
      if (!(event.key in to) || !marks.length) return;
      event.preventDefault();
      leave();
      at = Math.max(0, Math.min(marks.length - 1, to[event.key]));
      marks[at].classList.add("current");
      showBeside(marks[at]);
      spoken.textContent = marks[at].dataset.tip;
    });
    svg.addEventListener("blur", leave);
  }
}

function addSort(table) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button", textContent: head.textContent });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = [...body.rows].some((row) => "value" in row.cells[column].dataset);
      const order = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (!numeric) return x.localeCompare(y);
        const [p, q] = [Number(x), Number(y)]; // a dash is no number
        if (Number.isNaN(p) || Number.isNaN(q)) return up ? Number.isNaN(p) - Number.isNaN(q) : Number.isNaN(q) - Number.isNaN(p);
        return p - q;
      };
      const sorted = [...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
      body.append(...sorted);
    });
  });
}

function addSearch(table, block) {
  const rows = [...table.tBodies[0].rows];
  const title = block.querySelector("h3").textContent;
  const input = make("input", { type: "search", placeholder: "Search" });
  const count = make("output", {});
  input.setAttribute("aria-label", `Search in the table ${title}`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = input.value.trim() ? `${shown} of ${rows.length} rows` : "";
  });
  const line = make("div", { className: "search" });
  line.append(input, count);
  block.querySelector(".scroll").before(line);
}

addThemeSwitch();
addTips();
for (const block of document.querySelectorAll(".table")) {
  const table = block.querySelector("table");
  if (!table) continue;
  addSort(table);
  const ofNumbers = table.querySelector("tbody td:first-child.number");
  if (table.tBodies[0].rows.length > 10 && !ofNumbers) addSearch(table, block);
}
