// One metric at a time, for the whole page.
const bar = document.querySelector(".bar");
const select = bar.querySelector("select");
function show(metric) {
  for (const set of all(".test-set")) {
    const details = all(".detail", set);
    const found = details.find((d) => d.dataset.metric === metric) ?? details[0];
    for (const d of details) d.hidden = d !== found;
  }
}
select.onchange = () => show(select.value);
show(select.value);

// Systems are shown or not.
for (const chip of all("button", bar)) {
  chip.onclick = () => {
    const off = chip.getAttribute("aria-pressed") === "true";
    chip.setAttribute("aria-pressed", String(!off));
    for (const e of all(`main [data-s="${chip.dataset.s}"]`)) e.toggleAttribute("hidden", off);
  };
}
bar.hidden = false;
