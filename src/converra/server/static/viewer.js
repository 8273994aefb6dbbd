// What htmx does not: keyboard, copying, times of this place, and a page that stays where it is while it changes.
"use strict";

const items = () => [...document.querySelectorAll("[data-item]")];
const keys = document.getElementById("keys");

// keyboard

function move(step) {
  const all = items();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function leave() {
  const active = document.activeElement;
  if (active instanceof HTMLElement && active.matches("input, select")) {
    active.blur();
  } else {
    document.querySelector("a[rel=up]")?.click();
  }
}

function unfold() {
  const active = document.activeElement;
  const within = active?.matches("[data-item]") ? active : document.getElementById("bubbles");
  const calls = [...(within?.querySelectorAll("details.call") ?? [])];
  const open = calls.some((each) => !each.open);
  for (const each of calls) each.open = open;
}

const pressed = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  g: () => scrollTo({ top: 0 }),
  G: () => scrollTo({ top: document.documentElement.scrollHeight }),
  x: unfold,
  "/": () => document.getElementById("q") ? document.getElementById("q").select() : (location.href = "/#search"),
  "?": () => keys.showModal(),
  Escape: leave,
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input:not([type=checkbox]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || (typing && event.key !== "Escape")) return;
  if (event.key.startsWith("Arrow") && !document.querySelector("a[data-item]")) return; // a chat scrolls by itself
  const act = pressed[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.getElementById("help").addEventListener("click", () => keys.showModal());
if (location.hash === "#search") document.getElementById("q")?.focus();
for (const up of document.querySelectorAll("a[rel=up]")) { // back to the list as it was filtered
  if (document.referrer.split("?")[0] === up.href) up.href = document.referrer;
}

// copying

async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(await text());
    button.textContent = "Copied";
  } catch {
    button.textContent = "Failed";
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

document.addEventListener("click", (event) => {
  const from = event.target.closest("[data-copy-from]");
  if (from) copy(from, async () => (await fetch(from.dataset.copyFrom)).text());
  const beside = event.target.closest("[data-copy-button]");
  if (beside) copy(beside, () => beside.parentElement.querySelector("code").textContent);
});

function addCopyButtons() {
  for (const block of document.querySelectorAll("pre[data-copy]:not(:has([data-copy-button]))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.copyButton = "";
    button.textContent = "Copy";
    block.append(button);
  }
}

// times: the server writes UTC, the page shows those of this place

function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return seconds < 10 ? "just now" : `${seconds} s ago`;
}

function tellTimes() {
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  let day = "";
  for (const time of document.querySelectorAll("time[data-time]")) {
    const at = new Date(time.dateTime);
    const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
    const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
    const words = {
      ago: () => ago(Date.now() - at),
      clock: () => `${clock}.${pad(at.getMilliseconds(), 3)}`,
      moment: () => `${date} ${clock}`,
      turn: () => (date === day ? clock : `${date} ${clock}`), // the day only where a new one begins
    };
    const said = words[time.dataset.time]();
    if (time.textContent !== said) time.textContent = said;
    if (time.dataset.time === "turn") day = date;
  }
}
setInterval(tellTimes, 5000);

// what stays as it is when a part of the page is replaced

const opened = () => new Set([...document.querySelectorAll("details[id][open]")].map((each) => each.id));
let before = new Set();
let atEnd = false;
let held = null;

document.addEventListener("htmx:beforeSwap", () => {
  before = opened();
  atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  const top = document.querySelector(".top").offsetHeight;
  const seen = scrollY > 0 && items().find((each) => each.id && each.getBoundingClientRect().top >= top);
  held = seen ? [seen.id, seen.getBoundingClientRect().top] : null;
});

document.addEventListener("htmx:afterSettle", (event) => {
  for (const id of before) document.getElementById(id)?.setAttribute("open", "");
  const still = held && document.getElementById(held[0]);
  if (still) scrollBy(0, still.getBoundingClientRect().top - held[1]);
  if (["bubbles", "draft"].includes(event.detail.target?.id) && atEnd) scrollTo({ top: document.documentElement.scrollHeight });
  show();
});

// filters offer what has come up since the page was opened

function addChoices() {
  for (const list of document.querySelectorAll("datalist[data-choices]")) {
    const select = document.querySelector(`#filters select[name="${list.dataset.choices}"]`);
    const known = new Set([...select.options].map((each) => each.value));
    for (const each of list.options) if (!known.has(each.value)) select.add(new Option(each.value));
  }
}

function show() {
  addCopyButtons();
  addChoices();
  tellTimes();
}
show();
