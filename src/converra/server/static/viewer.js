// What htmx does not: keyboard, copying, times that stay true, and details that stay open.
"use strict";

const items = () => [...document.querySelectorAll("[data-item]")];
const keys = document.getElementById("keys");

function move(step) {
  const all = items();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function escape_() {
  const active = document.activeElement;
  if (active instanceof HTMLElement && active !== document.body) {
    active.blur();
  } else if (location.pathname !== "/") {
    location.href = document.referrer.startsWith(location.origin + "/?") ? document.referrer : "/";
  }
}

const pressed = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  "/": () => document.getElementById("q") ? document.getElementById("q").select() : (location.href = "/#search"),
  "?": () => keys.showModal(),
  Escape: escape_,
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea");
  const arrow = event.key.startsWith("Arrow");
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || (typing && event.key !== "Escape")) return;
  if (arrow && !items().length) return;
  const act = pressed[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.getElementById("help").addEventListener("click", () => keys.showModal());
if (location.hash === "#search") document.getElementById("q")?.focus();

// copying

async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

document.addEventListener("click", async (event) => {
  const from = event.target.closest("[data-copy-from]");
  if (from) await copy(from, await (await fetch(from.dataset.copyFrom)).text());
  const beside = event.target.closest("[data-copy-button]");
  if (beside) await copy(beside, beside.parentElement.querySelector("code").textContent);
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
addCopyButtons();

// what is live

const live = document.getElementById("live");
document.addEventListener("htmx:sseOpen", () => { live.textContent = "live"; live.className = "local on"; });
document.addEventListener("htmx:sseError", () => { live.textContent = "offline"; live.className = "local off"; });

const opened = () => new Set([...document.querySelectorAll("details[id][open]")].map((each) => each.id));
let before = new Set();
let atEnd = false;

document.addEventListener("htmx:beforeSwap", () => {
  before = opened();
  atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
});

document.addEventListener("htmx:afterSettle", (event) => {
  for (const id of before) document.getElementById(id)?.setAttribute("open", "");
  if (event.detail.target?.id === "bubbles" && atEnd) scrollTo({ top: document.documentElement.scrollHeight });
  addCopyButtons();
});

// how long ago

function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return seconds < 10 ? "just now" : `${seconds} s ago`;
}

setInterval(() => {
  for (const time of document.querySelectorAll("[data-item] time")) time.textContent = ago(Date.now() - Date.parse(time.dateTime));
}, 5000);
