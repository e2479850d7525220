// Keeps a page up to date: replaces what the server says has changed, counts times on, and says when it can't.
"use strict";
(() => {
  const address = document.body.dataset.live;
  const HUE_MAX = 20;
  const TOLERANCE = 0.1;
  // The server says something at least every ten seconds; silence for longer means that the line is dead.
  const SILENCE_MS = 25000;
  const LOST_AFTER_MS = 4000;

  // --- Times count on between updates ------------------------------------------------------------------------
  const since = new WeakMap();
  const secondsOf = (element, key) => {
    if (!since.has(element)) since.set(element, performance.now());
    return Number(element.dataset[key]) + Math.floor((performance.now() - since.get(element)) / 1000);
  };
  const two = (number) => String(number).padStart(2, "0");
  const clock = (seconds) => {
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor(seconds / 60) % 60;
    return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
  };
  const { say, localTimes } = window.forestage;
  const ago = (seconds) => {
    if (seconds <= 2) return say("now");
    if (seconds < 60) return say("seconds-ago", seconds);
    if (seconds < 3600) return say("minutes-ago", Math.floor(seconds / 60));
    if (seconds < 86400) return say("hours-ago", Math.floor(seconds / 3600));
    return say("days-ago", Math.floor(seconds / 86400));
  };
  const setText = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };
  // The same arithmetic as databar() on the server, for a run that goes on.
  const tickBar = (timing) => {
    const elapsed = secondsOf(timing, "elapsed");
    const expected = Number(timing.dataset.expected);
    setText(timing.querySelector(".elapsed"), clock(elapsed));
    if (!(expected > 0)) return;
    const over = Math.max(0, elapsed / expected - 1);
    const share = Math.min(1, Math.max(0, (over - TOLERANCE) / (1 - TOLERANCE)));
    const label = elapsed > expected ? say("over", clock(elapsed - expected)) : `${Math.floor(elapsed * 100 / expected)} %`;
    setText(timing.querySelector(".label"), label);
    const bar = timing.querySelector(".databar");
    bar.setAttribute("class", `databar hue-${Math.round(share * HUE_MAX)}`);
    bar.querySelector(".fill").setAttribute("width", String(Math.min(100, Math.floor(elapsed * 50 / expected))));
  };
  // Only what is in sight ticks; a row that comes into sight is right before it is seen.
  const inSight = new Set();
  const tickIn = (element) => {
    element.querySelectorAll("[data-elapsed]").forEach(tickBar);
    element.querySelectorAll("[data-ago]").forEach((ago_) => setText(ago_, ago(secondsOf(ago_, "ago"))));
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) { inSight.add(target); tickIn(target); } else inSight.delete(target);
    }
  }, { rootMargin: "200px" });
  // Looked for once: a page with thousands of rows is long to search, and the clock stands in its frame.
  const clocks = document.querySelectorAll("[data-clock]");
  const tick = () => {
    for (const element of inSight) {
      if (element.isConnected) tickIn(element); else { inSight.delete(element); watcher.unobserve(element); }
    }
    if (!table) tickIn(document);
    const now = new Date();
    clocks.forEach((place) => setText(place, `${two(now.getHours())}:${two(now.getMinutes())}`));
  };

  // --- Fragments ---------------------------------------------------------------------------------------------
  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    localTimes(template.content);
    return template.content.firstElementChild;
  };
  const flash = (element) => {
    element.classList.add("fresh");
    element.addEventListener("animationend", () => element.classList.remove("fresh"), { once: true });
  };
  const replace = (old, html) => {
    const fresh = parse(html);
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    return fresh;
  };

  // The rows on the page in their order; the server says by what each is sorted.
  const table = document.querySelector("table.devices");
  const rows = table ? [...table.tBodies] : [];
  rows.forEach((row) => watcher.observe(row));
  const placeOf = (key) => {
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].dataset.key < key) low = middle + 1; else high = middle;
    }
    return low;
  };
  const remove = (row) => {
    const place = placeOf(row.dataset.key);
    rows.splice(rows[place] === row ? place : rows.indexOf(row), 1);
    watcher.unobserve(row);
    inSight.delete(row);
    row.remove();
  };
  const insert = (row) => {
    const place = placeOf(row.dataset.key);
    table.insertBefore(row, rows[place] ?? null);
    rows.splice(place, 0, row);
    watcher.observe(row);
  };
  const showRow = (id, html) => {
    const old = document.getElementById(id);
    const fresh = parse(html);
    // The first machine that somebody has makes room for the column.
    if (fresh.querySelector(".pupil > :not(:empty)")) table.classList.add("with-pupils");
    if (!old) { insert(fresh); return; }
    const chosen = old.querySelector("input.pick")?.checked;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const onPick = old.contains(document.activeElement) && document.activeElement.matches("input.pick");
    const news = old.className.replace(" fresh", "") !== fresh.className;
    if (old.dataset.key === fresh.dataset.key) {
      rows[placeOf(old.dataset.key)] = fresh;
      old.replaceWith(fresh);
      watcher.unobserve(old);
      inSight.delete(old);
      watcher.observe(fresh);
    } else {
      remove(old);
      insert(fresh);
    }
    const pick = fresh.querySelector("input.pick");
    if (chosen && pick) pick.checked = true;
    if (onPick) pick?.focus({ preventScroll: true });
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (news) flash(fresh);
  };
  const showCells = (id, [of, title, percent, width, local, fetched, seen]) => {
    const row = document.getElementById(id);
    if (!row) return;
    setText(row.querySelector(".of"), of);
    setText(row.querySelector(".step .title"), title || "—");
    setText(row.querySelector(".percent"), percent);
    row.querySelector(".progress .fill")?.setAttribute("width", width);
    setText(row.querySelector(".local"), local);
    setText(row.querySelector(".fetched"), fetched);
    const ago_ = row.querySelector("[data-ago]");
    if (!ago_) return;
    since.delete(ago_);
    ago_.dataset.ago = seen;
    if (inSight.has(row)) setText(ago_, ago(seen));
  };
  const showOverview = (update) => {
    if (update.kept) {
      const kept = new Set(update.kept);
      [...rows].forEach((row) => kept.has(row.id) || remove(row));
    }
    update.gone.forEach((id) => { const row = document.getElementById(id); if (row) remove(row); });
    for (const [id, html] of Object.entries(update.rows)) showRow(id, html);
    for (const [id, cells] of Object.entries(update.cells)) showCells(id, cells);
    if (update.tiles) replace(document.getElementById("tiles"), update.tiles);
    setText(document.getElementById("count"), update.count);
    document.getElementById("empty").hidden = rows.length > 0;
    table.dataset.at = update.at;
    document.dispatchEvent(new Event("forestage:rows"));
  };

  const showRun = (update) => {
    for (const [id, html] of Object.entries(update.parts)) {
      const old = document.getElementById(id);
      if (old) replace(old, html);
    }
    const log = document.getElementById("log");
    if (!update.log || !log) return;
    const scroll = log.parentElement;
    const atEnd = scroll.scrollTop + scroll.clientHeight >= scroll.scrollHeight - 30;
    const template = document.createElement("template");
    template.innerHTML = update.log;
    localTimes(template.content);
    for (const line of [...template.content.children]) {
      if (Number(line.dataset.seq) <= Number(log.dataset.after)) continue;
      log.dataset.after = line.dataset.seq;
      log.append(line);
    }
    document.getElementById("log-empty")?.remove();
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  };

  // --- The connection ----------------------------------------------------------------------------------------
  const lamp = document.getElementById("live");
  const show = (alive) => {
    if (lamp) lamp.dataset.state = alive ? "live" : "lost";
    setText(document.getElementById("live-text"), alive ? say("live") : say("not-live"));
    const lost = document.getElementById("lost");
    if (lost) lost.hidden = alive;
  };
  let source = null;
  let heard = 0;
  let wait = 1000;
  let timer = 0;
  // The server ends every stream after some minutes; one that is back at once was never lost.
  let losing = 0;
  const lose = () => { losing ||= setTimeout(() => show(false), LOST_AFTER_MS); };
  const connect = () => {
    timer = 0;
    source?.close();
    heard = performance.now();
    const log = document.getElementById("log");
    const known = log ? `after=${log.dataset.after}` : table ? `at=${table.dataset.at}` : "";
    source = new EventSource(`${address}${address.includes("?") ? "&" : "?"}${known}`);
    const hear = (draw) => (event) => {
      heard = performance.now();
      wait = 1000;
      clearTimeout(losing);
      losing = 0;
      show(true);
      if (draw) draw(JSON.parse(event.data));
      tick();
    };
    source.addEventListener("beat", hear(null));
    source.addEventListener("overview", hear(showOverview));
    source.addEventListener("run", hear(showRun));
    source.addEventListener("parts", hear(showRun));
    source.onerror = () => {
      lose();
      source.close();
      retry();
    };
  };
  const retry = async () => {
    if (timer) return;
    timer = setTimeout(connect, wait);
    wait = Math.min(wait * 2, 15000);
    // A session that has ended looks like a lost line; the sign-in page is then the way back.
    try {
      const answer = await fetch("/live/session", { cache: "no-store" });
      if (answer.status === 401) location.reload();
    } catch { /* The line is down; the timer tries again. */ }
  };

  setInterval(() => {
    tick();
    if (source && !timer && performance.now() - heard > SILENCE_MS) {
      show(false);
      source.close();
      retry();
    }
  }, 1000);
  tick();
  const scroll = document.querySelector(".log-scroll");
  if (scroll) scroll.scrollTop = scroll.scrollHeight;
  const filters = document.getElementById("filters");
  filters?.addEventListener("change", (event) => event.target.matches("select") && filters.requestSubmit());
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  if (address && location.protocol !== "file:") connect();
})();
