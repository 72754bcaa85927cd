// Keeps a page up to date by server-sent events, shows times as ages, filters rows, and listens to a few keys.

const body = document.body;
const ahead = Number(body.dataset.now || Date.now() / 1000) - Date.now() / 1000;
const status = document.getElementById("live");

function say(state, text) {
  if (status && (status.dataset.state !== state || status.textContent !== text)) {
    status.dataset.state = state;
    status.textContent = text;
  }
}

function lasting(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

function tick(within = document) {
  const now = Date.now() / 1000 + ahead;
  for (const time of within.querySelectorAll("time[data-since]")) {
    const text = lasting(now - Number(time.dataset.since));
    if (time.textContent !== text) time.textContent = text;
  }
}

// Changes

const SILENT_MS = 40_000;  // Something is heard every 15 seconds.

function made(html, place) {
  const template = document.createElement("template");
  template.innerHTML = html;  // of the service's own templates, which escape
  const element = template.content.firstElementChild;
  if (place.tagName === "TBODY") tick(template.content);
  return element;
}

const LINKS = "a, button, input, [tabindex]";

function focus(element) {
  (element || document.getElementById("main")).focus({ preventScroll: true });
}

function replace(old, fresh) {
  const hadFocus = old.contains(document.activeElement);
  const focused = hadFocus ? [...old.querySelectorAll(LINKS)].indexOf(document.activeElement) : -1;
  // Only where it is needed: to ask for a size has the browser lay out the whole page, for each row anew.
  const scrolls = old.tagName === "PRE";
  const scrolled = scrolls && old.scrollTop, atEnd = scrolls && scrolled + old.clientHeight >= old.scrollHeight - 4;
  old.replaceWith(fresh);
  if (scrolls) fresh.scrollTop = atEnd ? fresh.scrollHeight : scrolled;
  if (hadFocus) focus(focused < 0 ? fresh : fresh.querySelectorAll(LINKS)[focused] || fresh.querySelector(LINKS));
}

function drop(row) {
  if (!row) return;
  const hadFocus = row.contains(document.activeElement);
  let next = row.nextElementSibling;
  while (next?.hidden) next = next.nextElementSibling;
  row.remove();
  if (hadFocus) focus(next?.querySelector(LINKS));
}

function apply(change) {
  const place = document.getElementById(change.place);
  if (!place) return;
  if (change.all) {
    const focused = document.activeElement && document.activeElement.closest("[id]");
    const key = focused && place.contains(focused) ? focused.id : null;
    place.replaceChildren(...change.all.map((html) => made(html, place)));
    if (key) focus(document.getElementById(key)?.querySelector(LINKS));
    return;
  }
  for (const key of change.drop) drop(document.getElementById(key));
  for (const [key, before, html] of change.put) {
    const old = document.getElementById(key);
    if (old) replace(old, made(html, place));
    else if (before === null) place.prepend(made(html, place));
    else document.getElementById(before)?.after(made(html, place));
  }
}

function follow() {
  let version = body.dataset.version;
  let source = null;
  let again = 0;
  let heard = 0;
  let paused = false;

  function open() {
    if (paused) return;
    clearTimeout(again);
    heard = Date.now();
    source = new EventSource(`/live?view=${encodeURIComponent(body.dataset.view)}&have=${version}`);
    for (const kind of ["open", "change", "well", "trouble"]) {
      source.addEventListener(kind, () => { heard = Date.now(); });
    }
    source.addEventListener("change", (event) => {
      JSON.parse(event.data).forEach(apply);
      version = event.lastEventId;
      tick();
      filterAll();
      say("on", "live");
    });
    source.addEventListener("open", () => say("on", "live"));
    source.addEventListener("well", () => say("on", "live"));
    source.addEventListener("trouble", (event) => say(event.data ? "trouble" : "on", event.data || "live"));
    source.addEventListener("full", () => { close(); say("lost", "not live: too many viewers"); later(15000); });
    source.addEventListener("leave", () => { close(); location.reload(); });
    source.addEventListener("error", () => {
      say("lost", "not live: trying again");
      // A browser tries again by itself unless it was given an answer that is no stream.
      if (source && source.readyState === EventSource.CLOSED) { close(); ask(); }
    });
  }
  async function ask() {
    const page = await fetch(location.href, { redirect: "manual" }).catch(() => null);
    if (page?.type === "opaqueredirect") location.reload();  // to where one signs in
    else later(2000);
  }
  function close() { source?.close(); source = null; }
  function later(ms) { clearTimeout(again); again = setTimeout(open, ms); }

  // A browser has six connections for all its windows here: one that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    if (!document.hidden) { if (!source) open(); return; }
    clearTimeout(again);
    close();
    say("off", "not live while hidden");
  });
  // A connection may be dead without a word: the computer slept, or what is in between has gone.
  setInterval(() => {
    if (!source || Date.now() - heard < SILENT_MS) return;
    close();
    say("lost", "not live: trying again");
    open();
  }, 1000);
  function pause() {
    paused = !paused;
    pauses.textContent = paused ? "Go on" : "Pause";
    if (!paused) { open(); return; }
    clearTimeout(again);
    close();
    say("off", "paused");
  }
  const pauses = document.getElementById("pause");
  pauses.hidden = false;
  pauses.addEventListener("click", pause);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  open();
}

// Filters

const filters = [...document.querySelectorAll("input[data-filter]")];

function filterAll() {
  for (const input of filters) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let all = 0, shown = 0;
    for (const place of input.dataset.filter.split(" ")) {
      for (const row of document.getElementById(place)?.children || []) {
        const text = words.length ? row.textContent.toLowerCase() : "";
        const hidden = !words.every((word) => text.includes(word));
        if (row.hidden !== hidden) row.hidden = hidden;
        all += 1;
        if (!hidden) shown += 1;
      }
    }
    const told = words.length ? `${shown} of ${all}` : "";
    const counter = input.nextElementSibling;
    if (counter.textContent !== told) counter.textContent = told;
  }
}

for (const input of filters) input.addEventListener("input", filterAll);

// Keys

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && typing?.dataset.filter) {
    typing.value = "";
    filterAll();
    typing.blur();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && filters.length) {
    event.preventDefault();
    filters[0].focus();
  }
  if (event.key === "p") document.getElementById("pause")?.click();
  const link = /^[1-9]$/.test(event.key) && document.querySelector(`nav a[data-key="${event.key}"]`);
  if (link) link.click();
});

const console_ = document.querySelector("pre.console");
if (console_) console_.scrollTop = console_.scrollHeight;
const insecure = document.querySelector("[data-insecure]");
if (insecure) insecure.hidden = window.isSecureContext;
tick();
setInterval(tick, 1000);
if (body.dataset.view) follow();
