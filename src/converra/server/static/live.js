// The stream of changes: told to htmx as the events live:conversations, live:requests, live:webhooks, live:changed and live:draft.
"use strict";

// A browser opens at most six connections to one server, for all its tabs together, so only a tab that is seen holds
// one; what it misses while it is hidden, it is told when it is shown again.
{
  const page = document.querySelector("[data-live]");
  const state = document.getElementById("live");
  const pause = 200; // milliseconds between two updates of one kind; the last one is never left out
  const again = new Map();
  let stream = null;

  const say = (words, kind) => {
    state.textContent = words;
    state.className = `local ${kind}`;
  };

  const tell = (name) => {
    if (again.has(name)) {
      again.set(name, true);
      return;
    }
    again.set(name, false);
    htmx.trigger(document.body, `live:${name}`);
    setTimeout(() => {
      const more = again.get(name);
      again.delete(name);
      if (more) tell(name);
    }, pause);
  };

  const leave = () => {
    stream?.close();
    stream = null;
  };

  const listen = () => {
    if (!page || stream || document.hidden) return;
    stream = new EventSource(page.dataset.live);
    stream.onopen = () => say("live", "on");
    stream.onerror = () => {
      say("offline", "off");
      if (stream?.readyState !== EventSource.CLOSED) return; // else it tries again by itself
      leave();
      setTimeout(listen, 2000);
    };
    for (const name of ["conversations", "requests", "webhooks", "changed", "draft"]) stream.addEventListener(name, () => tell(name));
  };

  document.addEventListener("DOMContentLoaded", listen); // htmx has read the page by then
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : listen()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && listen());
}
