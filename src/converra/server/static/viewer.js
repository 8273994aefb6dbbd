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
  m: () => document.getElementById("as-source")?.click(),
  n: () => toHit(1),
  N: () => toHit(-1),
  J: () => document.querySelector("a[rel=next]:not([hidden])")?.click(),
  K: () => document.querySelector("a[rel=prev]:not([hidden])")?.click(),
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
document.getElementById("more-filters")?.addEventListener("click", (event) => { // on narrow screens
  const button = event.target.closest("button");
  button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") !== "true");
});
if (location.hash === "#search") document.getElementById("q")?.focus();

// neighbours: those of the list that one comes from, as it was filtered and sorted

function neighbours() {
  const stored = (() => { try { return JSON.parse(sessionStorage.getItem("list") ?? "[]"); } catch { return []; } })();
  const at = stored.findIndex((each) => new URL(each, location.href).pathname === location.pathname);
  if (at < 0) return;
  for (const [rel, address] of [["prev", stored[at - 1]], ["next", stored[at + 1]]]) {
    const link = document.querySelector(`a[rel=${rel}]`);
    if (!link) continue;
    link.hidden = !address;
    if (address) link.href = address;
  }
}

function keepList() {
  const links = [...document.querySelectorAll("#list a.title")].map((each) => each.getAttribute("href"));
  if (document.getElementById("list")) sessionStorage.setItem("list", JSON.stringify(links));
}

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
  for (const block of document.querySelectorAll("pre[data-copy]")) {
    const holder = block.closest(".codeblock") ?? block;
    if (holder.querySelector("[data-copy-button]")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.copyButton = "";
    button.textContent = "Copy";
    holder.append(button);
  }
}

// rendered or source: the choice is kept, and the page stays at the message that is read

const source = document.getElementById("as-source");
if (source) {
  source.checked = localStorage.getItem("source") === "yes";
  let reading = null;
  const remember = () => {
    const top = document.querySelector(".top").offsetHeight;
    const all = items();
    const seen = all.find((each) => each.getBoundingClientRect().top >= top) ?? all.at(-1);
    reading = seen ? [seen, seen.getBoundingClientRect().top] : null;
  };
  addEventListener("scroll", remember, { passive: true });
  source.addEventListener("change", () => {
    localStorage.setItem("source", source.checked ? "yes" : "no");
    if (reading && scrollY > 0) scrollBy(0, reading[0].getBoundingClientRect().top - reading[1]);
    remember();
  });
}

// charts: what the bar says that is pointed at, or touched, stands in the place of the maximum

function readOut(event) {
  const plot = event.target.closest?.(".plot svg");
  for (const each of document.querySelectorAll(".chart:has(.pointed)")) unread(each, plot);
  if (!plot) return;
  const place = plot.getBoundingClientRect();
  const x = ((event.clientX - place.left) / place.width) * plot.viewBox.baseVal.width;
  const bars = [...plot.querySelectorAll("rect")];
  const at = bars.findLast((each) => each.x.baseVal.value <= x)?.x.baseVal.value;
  const pointed = bars.filter((each) => each.x.baseVal.value === at);
  if (!pointed.length) return;
  const words = plot.closest(".chart").querySelector("figcaption span");
  words.dataset.most ??= words.textContent;
  words.textContent = pointed[0].textContent;
  for (const each of bars) each.classList.toggle("pointed", pointed.includes(each));
}

function unread(chart, plot) {
  if (chart.contains(plot)) return;
  const words = chart.querySelector("figcaption span");
  words.textContent = words.dataset.most ?? words.textContent;
  for (const each of chart.querySelectorAll(".pointed")) each.classList.remove("pointed");
}

for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, readOut);

// hits of a search: the words of ?q= are marked in the messages that have all of them, as the index finds them

const WORD = /[\p{L}\p{N}\p{M}\p{Co}]+/gu;
const plain = (word) => word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const wanted = [...(new URLSearchParams(location.search).get("q") ?? "").matchAll(WORD)].map((match) => plain(match[0]));
let hits = [];
let atHit = -1;

const wordAt = (word) => wanted.findIndex((each, at) => word === each || (at === wanted.length - 1 && word.startsWith(each)));

function wordsOf(message) {
  const found = [];
  const texts = document.createTreeWalker(message, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const holder = texts.currentNode.parentElement;
    if (!holder.closest(".bubble, .call") || holder.closest("button, .preview, .peek, .label, .badge, .language")) continue;
    if (holder.closest("[data-message]") !== message) continue;
    for (const match of texts.currentNode.data.matchAll(WORD)) {
      const at = wordAt(plain(match[0]));
      if (at >= 0) found.push({ node: texts.currentNode, start: match.index, end: match.index + match[0].length, at });
    }
  }
  return wanted.every((_, at) => found.some((each) => each.at === at || wanted[each.at] === wanted[at])) ? found : [];
}

function markHits() {
  const place = document.getElementById("found");
  if (!place || !wanted.length) return;
  for (const message of document.querySelectorAll("[data-message]:not([data-searched])")) {
    message.dataset.searched = "";
    for (const { node, start, end } of wordsOf(message).reverse()) { // from the end: what is before stays where it is
      const mark = document.createElement("mark");
      const hit = node.splitText(start);
      hit.splitText(end - start);
      hit.replaceWith(mark);
      mark.append(hit);
    }
  }
  hits = [...document.querySelectorAll("[data-message]")].filter((message) => marksOf(message).length);
  place.hidden = !hits.length;
  tellHits();
}

const marksOf = (message) => [...message.querySelectorAll("mark")].filter((mark) => mark.closest("[data-message]") === message);

const isShown = (mark) => {
  const variant = mark.closest(".rendered, .source");
  return !variant || getComputedStyle(variant).display !== "none";
};

function tellHits() {
  const place = document.getElementById("found");
  const q = new URLSearchParams(location.search).get("q");
  const words = atHit < 0 ? `${hits.length} with “${q}”` : `${atHit + 1} of ${hits.length} with “${q}”`;
  if (place.firstElementChild.textContent !== words) place.firstElementChild.textContent = words;
}

function toHit(step) {
  if (!hits.length) return;
  showHit((atHit + step + hits.length) % hits.length);
}

function showHit(at) {
  atHit = at;
  document.querySelector("mark.current")?.classList.remove("current");
  const mark = marksOf(hits[at]).find(isShown);
  if (!mark) return;
  openAround(mark);
  mark.classList.add("current");
  hits[at].closest("[data-item]")?.focus({ preventScroll: true });
  mark.scrollIntoView({ block: "center" });
  tellHits();
}

function openAround(element) {
  for (let each = element.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
}

document.getElementById("found")?.addEventListener("click", (event) => {
  const button = event.target.closest("[data-step]");
  if (button) toHit(Number(button.dataset.step));
});

function toAddress() {
  const named = document.getElementById(location.hash.slice(1));
  const at = hits.indexOf(named);
  if (at >= 0) {
    showHit(at);
  } else if (named?.matches("[data-message]")) {
    openAround(named);
    named.scrollIntoView({ block: "start" });
  } else if (hits.length && !location.hash) {
    showHit(0);
  }
}
addEventListener("hashchange", toAddress);

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

// a click is lost if its element is replaced between press and release: such a part is asked for again afterwards

let pointerDown = false;
const postponed = new Map();

document.addEventListener("htmx:beforeSwap", (event) => {
  if (!pointerDown) return;
  event.detail.shouldSwap = false;
  postponed.set(event.detail.requestConfig.elt, event.detail.requestConfig);
});

function release() {
  pointerDown = false;
  setTimeout(() => { // after the click, which may have left the page
    for (const [source, { verb, path }] of postponed) if (source.isConnected) htmx.ajax(verb, path, { source });
    postponed.clear();
  });
}

addEventListener("pointerdown", () => { pointerDown = true; }, true);
for (const name of ["pointerup", "pointercancel", "dragend"]) addEventListener(name, release, true);
addEventListener("blur", release); // of the window, not of its elements: those do not bubble

// filters offer what has come up since the page was opened

function addChoices() {
  for (const list of document.querySelectorAll("datalist[data-choices]")) {
    const select = document.querySelector(`#filters select[name="${list.dataset.choices}"]`);
    const known = new Set([...select.options].map((each) => each.value));
    for (const each of list.options) if (!known.has(each.value)) select.add(new Option(each.value));
  }
}

function show() {
  keepList();
  markHits();
  addCopyButtons();
  addChoices();
  tellTimes();
}
show();
neighbours();
toAddress();
addEventListener("load", () => requestAnimationFrame(toAddress)); // until then the browser scrolls to the message itself
