// Keeps times right, and fetches the page again now and then; the dashboard alone asks the API.
"use strict";
(() => {
  const live = () => document.getElementById("live");
  let shown = Date.parse(live().dataset.now), began = performance.now(), failed = false;
  const now = () => shown + performance.now() - began;

  const two = (value) => String(value).padStart(2, "0");
  const clock = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };
  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s >= 172800) return `${Math.floor(s / 86400)} days`;
    if (s >= 3600) return `${Math.floor(s / 3600)} h`;
    if (s >= 60) return `${Math.floor(s / 60)} min`;
    return `${s} s`;
  };

  function tick() {
    for (const el of document.querySelectorAll("[data-until]")) el.textContent = clock(Date.parse(el.dataset.until) - now());
    for (const el of document.querySelectorAll("[data-age]")) el.textContent = `${span(now() - Date.parse(el.dateTime))} ago`;
    for (const el of document.querySelectorAll("[data-end]")) {
      const start = Date.parse(el.dataset.start), end = Date.parse(el.dataset.end);
      el.value = 1000 * Math.min(1, Math.max(0, (now() - start) / (end - start)));
    }
  }

  // What was fetched takes the place of what is there, unless its reader is in the midst of it.
  function busy() {
    const chosen = document.getSelection();
    return (chosen && !chosen.isCollapsed) || document.activeElement.matches("input");
  }

  function replace(next) {
    const reached = () => [...document.querySelectorAll("a, button, summary, .wide")];
    const scrolled = [...document.querySelectorAll(".wide")].map((el) => el.scrollLeft);
    const opened = [...document.querySelectorAll("details[open]")].map((el) => el.querySelector("summary").textContent);
    const focused = reached().indexOf(document.activeElement);
    for (const id of ["nav", "state", "live"]) document.getElementById(id).replaceWith(next.getElementById(id));
    document.querySelectorAll(".wide").forEach((el, n) => { el.scrollLeft = scrolled[n] || 0; });
    for (const el of document.querySelectorAll("details")) el.open = opened.includes(el.querySelector("summary").textContent);
    if (focused >= 0 && reached()[focused]) reached()[focused].focus({ preventScroll: true });
    document.title = next.title;
  }

  function lost() {
    if (failed) return;
    failed = true;
    const said = document.createElement("p");
    said.className = "banner";
    said.setAttribute("role", "status");
    said.textContent = `The dashboard does not answer. This page is from ${new Date(shown).toISOString().slice(0, 19).replace("T", " ")} UTC.`;
    live().prepend(said);
    live().querySelector("main").classList.add("stale");
    document.getElementById("state").textContent = "not live";
  }

  async function refresh() {
    try {
      const answer = await fetch(location.href, { cache: "no-cache" });
      if (!answer.ok) throw new Error(String(answer.status));
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!busy()) {
        replace(next);
        const said = Date.parse(live().dataset.now);
        if (said !== shown) { shown = said; began = performance.now(); }
        failed = false;
        tick();
      }
    } catch {
      lost();
    }
    later();
  }

  const later = () => setTimeout(refresh, 1000 * Number(live().dataset.every));
  document.addEventListener("pointerover", (event) => {
    const said = event.target.dataset && event.target.dataset.said;
    if (said) event.target.closest("figure").querySelector("output").textContent = said;
  });
  document.addEventListener("visibilitychange", tick);
  setInterval(tick, 1000);
  tick();
  later();
})();
