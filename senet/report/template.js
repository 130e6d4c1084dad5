"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Sorting: a cell's data-v, else its text; what has no number stays at the end.
function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  const n = Number(text);
  return text === "" ? null : Number.isNaN(n) ? text : n;
}
for (const th of all("table.sortable thead th")) {
  const button = document.createElement("button");
  button.append(...th.childNodes);
  th.append(button);
  button.onclick = () => {
    const up = th.getAttribute("aria-sort") === (th.cellIndex ? "descending" : "ascending");
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    const ascending = th.cellIndex ? up : !up; // numbers begin with the largest
    th.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = th.closest("table").tBodies[0];
    const rows = [...body.rows].map((row, i) => [value(row, th.cellIndex), i, row]);
    rows.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return (ascending ? order : -order) || i - j;
    });
    body.append(...rows.map((r) => r[2]));
    const others = document.getElementById(th.closest("table").dataset.orders); // that have the order of the rows
    others?.append(...rows.map((r) => document.getElementById(r[2].dataset.of)).filter(Boolean));
  };
}

// Listening: one at a time; another version of an utterance goes on where the one before it was.
let playing = null;
let last = null; // the utterance that the keys are for
for (const utterance of all(".utterance")) {
  const takes = all(".take", utterance).filter((t) => t.querySelector("audio"));
  const seconds = Number(utterance.dataset.seconds);
  let at = 0;
  const mark = () => utterance.style.setProperty("--at", `${(100 * at) / seconds}%`);
  utterance.play = (take, from = at) => {
    if (!take) return;
    const audio = take.querySelector("audio");
    if (playing && playing !== audio) playing.pause();
    last = utterance;
    at = from;
    audio.currentTime = at;
    audio.play();
  };
  utterance.takes = takes;
  for (const take of takes) {
    const audio = take.querySelector("audio");
    const button = take.querySelector(".play");
    const step = () => {
      if (playing !== audio) return;
      at = audio.currentTime;
      mark();
      requestAnimationFrame(step);
    };
    audio.controls = false;
    button.hidden = false;
    button.onclick = () => (playing === audio ? audio.pause() : utterance.play(take));
    audio.onplay = () => {
      playing = audio;
      button.setAttribute("aria-pressed", "true");
      utterance.classList.add("started");
      step();
    };
    audio.onpause = () => {
      if (playing === audio) playing = null;
      button.setAttribute("aria-pressed", "false");
      at = audio.ended ? 0 : audio.currentTime;
      mark();
    };
    take.querySelector(".picture").onclick = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      utterance.play(take, (seconds * (event.clientX - box.left)) / box.width);
    };
  }
}
document.addEventListener("keydown", (event) => {
  if (!last || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const n = "123456789".indexOf(event.key);
  if (n >= 0) last.play(last.takes[n]);
});
