// The assignment page: scan a machine, scan a pupil, next. Scanners type fast and end with Enter or Tab.
//
// No scan is lost: each is kept in the browser's storage, as scanned, until the server has done what it means. A hand-out
// has an id made here, so that sending it twice does it once. Nothing else is stored, and never a name.
"use strict";
(() => {
  const page = document.getElementById("assign");
  const field = document.getElementById("assign-scan");
  if (!page || !field) return;
  const words = JSON.parse(page.dataset.words);
  const say = (key, values = {}) =>
    words[key].replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
  const part = (name) => page.querySelector(`[data-part="${name}"]`);
  const STORE = `forestage-scans-${page.dataset.user}`;
  const MUTED = "forestage-scan-muted";
  // A slow line is waited for; then the scan is sent again.
  const ANSWER_MS = 20000;
  const BOUNCE_MS = 400;
  const RETRY_MS = [1000, 2000, 4000, 8000];

  let mode = "out";
  let queue = load();
  let taken = 0; // Scans at the head of the queue that half a pair is made of.
  let half = { device: null, pupil: null };
  let offer = null; // What the server refused, and a second scan would allow.
  let list = [];
  let isWorking = false;
  let failures = 0;
  let latest = { text: "", at: 0 };
  let last = null; // The last return, for a note on its condition.

  function load() {
    try {
      const stored = JSON.parse(localStorage.getItem(STORE) ?? "[]");
      return Array.isArray(stored) ? stored.filter((scan) => typeof scan?.text === "string") : [];
    } catch { return []; }
  }
  const store = () => {
    if (queue.length) localStorage.setItem(STORE, JSON.stringify(queue));
    else localStorage.removeItem(STORE);
  };

  // Two sounds nobody mistakes for each other, and a tick for half a pair.
  let audio = null;
  const isMuted = () => localStorage.getItem(MUTED) === "yes";
  const tone = (from, hertz, seconds, type, loud) => {
    const oscillator = audio.createOscillator();
    const gain = audio.createGain();
    oscillator.type = type;
    oscillator.frequency.value = hertz;
    gain.gain.setValueAtTime(loud, audio.currentTime + from);
    gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + from + seconds);
    oscillator.connect(gain).connect(audio.destination);
    oscillator.start(audio.currentTime + from);
    oscillator.stop(audio.currentTime + from + seconds);
  };
  const SOUNDS = {
    done: () => { tone(0, 880, 0.12, "sine", 0.4); tone(0.12, 1320, 0.22, "sine", 0.4); },
    warn: () => { tone(0, 880, 0.12, "sine", 0.4); tone(0.14, 660, 0.25, "triangle", 0.4); },
    bad: () => { tone(0, 150, 0.25, "square", 0.35); tone(0.32, 150, 0.35, "square", 0.35); },
    half: () => tone(0, 660, 0.06, "sine", 0.25),
  };
  const beep = (name) => {
    page.dataset.sound = name;
    if (isMuted()) return;
    try {
      audio ??= new AudioContext();
      audio.resume();
      SOUNDS[name]();
    } catch { /* No sound: colour, icon and text say it too. */ }
  };

  // What is seen from two metres away.
  const show = (state, headline, detail = "", hint = "") => {
    page.dataset.state = state;
    part("headline").textContent = headline;
    part("detail").textContent = detail;
    part("hint").textContent = hint;
    part("open").hidden = true;
    for (const icon of page.querySelectorAll("[data-icon]")) icon.hidden = !icon.dataset.icon.split(" ").includes(state);
  };
  const idle = () => mode === "out"
    ? show("idle", say("scan-any"), "", "")
    : show("idle", say("scan-back"), "", "");
  const showHalf = () => {
    if (half.device) show("half", half.device.serial, describe(half.device), say("scan-pupil"));
    else if (half.pupil) show("half", half.pupil.name, half.pupil.class, say("scan-machine"));
    else idle();
  };
  const describe = (device) =>
    [device.name, device["asset-tag"], device.model, device.class].filter(Boolean).join(" · ");
  const person = (of) => (of.class ? `${of.name} (${of.class})` : of.name) || say("someone-else");
  const waiting = () => {
    const count = queue.length - taken;
    part("waiting").textContent = count > 0 ? say("waiting", { n: count }) : "";
    page.dataset.waiting = count;
  };

  class Offline extends Error {}
  const call = async (path, body) => {
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch { throw new Offline(say("offline")); }
    if (response.status === 401) throw new Offline(say("signed-out"));
    if (response.status >= 500) throw new Offline(say("server-failed"));
    const reply = await response.json().catch(() => ({}));
    if (!response.ok) throw Object.assign(new Error([reply.said, reply.message].filter(Boolean).join(" ") || say("refused")), { code: reply.code });
    return reply;
  };

  const begin = () => { half = { device: null, pupil: null }; offer = null; };
  // The scans that this was about are done with.
  const settle = (count) => { queue.splice(0, count); taken = 0; store(); waiting(); };
  const refuse = (headline, detail = "", hint = "") => { beep("bad"); show("bad", headline, detail, hint); };

  const work = async () => {
    if (isWorking) return;
    isWorking = true;
    while (queue.length > taken) {
      const scan = queue[taken];
      waiting();
      if (failures === 0 && page.dataset.state === "idle") show("busy", scan.text, say("looking-up"));
      try {
        const reply = await call("/api/v1/assignments/scan", { text: scan.text });
        await meant(scan, reply);
        if (failures) { failures = 0; page.dataset.line = "there"; part("line").textContent = ""; }
      } catch (error) {
        if (error instanceof Offline) {
          if (failures === 0) beep("bad");
          page.dataset.line = "lost";
          part("line").textContent = error.message;
          await new Promise((go) => setTimeout(go, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
          failures += 1;
          continue;
        }
        settle(taken + 1);
        begin();
        refuse(scan.text, error.message);
      }
    }
    isWorking = false;
    waiting();
  };

  // What a scan means, now.
  const meant = async (scan, reply) => {
    const { devices, pupils, visitors } = reply;
    if (!devices.length && !pupils.length && visitors.length) {
      settle(taken + 1);
      begin();
      visiting(visitors[0]);
    } else if (!devices.length && !pupils.length) {
      settle(taken + 1);
      begin();
      refuse(say("unknown"), scan.text, say("unknown-hint"));
    } else if (devices.length > 1 && !(half.device && pupils.length)) {
      settle(taken + 1);
      begin();
      refuse(say("several"), scan.text, say("several-hint"));
    } else if (mode === "back") {
      await back(scan, devices[0]);
    } else if (devices.length && pupils.length && !half.device && !half.pupil) {
      settle(taken + 1);
      refuse(say("both"), scan.text, say("both-hint"));
    } else if (pupils.length && (half.device || !devices.length)) {
      await pupilScanned(scan, pupils[0]);
    } else {
      await deviceScanned(scan, devices[0]);
    }
  };

  // A machine of another school that is at this one: what can be done is on its own page.
  const visiting = ({ serial, site, "site-name": name }) => {
    refuse(say("visitor", { serial, site: name || site }), "", say("visitor-hint"));
    const link = part("open");
    link.href = `/devices/${encodeURIComponent(serial)}`;
    link.textContent = say("visitor-open", { serial });
    link.hidden = false;
  };

  const back = async (scan, device) => {
    if (!device) {
      settle(taken + 1);
      return refuse(say("not-a-machine"), scan.text, say("scan-back"));
    }
    if (!device.holder && !scan.returning) {
      settle(taken + 1);
      return refuse(device.serial, say("nobody-has-it"));
    }
    await takeBack(scan, device);
  };
  const takeBack = async (scan, device) => {
    // Kept with the scan: after a lost answer nobody has the machine any more, and it is still this return.
    scan.returning ??= device.holder.assignment;
    store();
    const row = await call(`/api/v1/assignments/${scan.returning}/return`, {});
    settle(taken + 1);
    begin();
    last = row.assignment;
    part("condition").hidden = false;
    enter({ kind: "back", assignment: row.assignment, serial: device.serial, person: person(row) });
    beep("done");
    show("done", device.serial, say("is-back", { name: person(row) }), say("scan-next"));
    refreshClass();
  };

  const deviceScanned = async (scan, device) => {
    if (offer && offer.device.device === device.device) return swap(scan);
    // The same machine twice: take it back.
    const isAgain = half.device?.device === device.device;
    if (isAgain && (device.holder || scan.returning)) return takeBack(scan, device);
    const pupil = offer ? null : half.pupil;
    offer = null;
    if (pupil) return pair(scan, device, pupil);
    // Another machine takes the place of the first.
    settle(taken);
    half = { device, pupil: null };
    taken = 1;
    store();
    if (device.holder) {
      beep("warn");
      show("warn", device.serial, say("is-with", { name: person(device.holder) }), say("again-takes-back"));
    } else {
      beep("half");
      showHalf();
      if (!device.ready) { page.dataset.state = "warn"; part("detail").textContent = say("not-ready"); }
    }
  };
  const pupilScanned = async (scan, pupil) => {
    if (offer && offer.pupil.pupil === pupil.pupil) return swap(scan);
    const device = offer ? null : half.device;
    offer = null;
    if (device) return pair(scan, device, pupil);
    settle(taken);
    half = { device: null, pupil };
    taken = 1;
    store();
    if (pupil.devices.length && !pupil.several) {
      beep("warn");
      show("warn", pupil.name, say("has", { serial: pupil.devices[0].serial }), say("scan-machine"));
    } else {
      beep("half");
      showHalf();
    }
  };

  const pair = async (scan, device, pupil, isSwap = false) => {
    // The id is kept with the scan: after a lost answer or a reload it is the same hand-out.
    scan.assignment ??= crypto.randomUUID();
    store();
    const ask = { assignment: scan.assignment, device: device.device, pupil: pupil.pupil, swap: isSwap };
    let reply;
    try {
      reply = await call("/api/v1/assignments", ask);
    } catch (error) {
      if (error.code !== "device-handed-out" && error.code !== "pupil-has-device") throw error;
      settle(taken + 1);
      half = { device: null, pupil: null };
      offer = { device, pupil };
      return refuse(device.serial, error.message, say("again-swaps"));
    }
    settle(taken + 1);
    begin();
    const warnings = reply.warnings.map((warning) => words[`w-${warning.code}`] ?? warning.text);
    const ended = reply.ended.map((row) => say("is-back-short", { serial: row.serial, name: row.name }));
    enter({ kind: "out", assignment: reply.made.assignment, serial: device.serial, person: person(pupil) });
    beep(warnings.length ? "warn" : "done");
    show(warnings.length ? "done-warn" : "done", pupil.name, [device.serial, pupil.class].filter(Boolean).join(" · "),
      [...warnings, ...ended].join(" · ") || say("scan-next"));
    refreshClass();
  };
  const swap = (scan) => {
    const { device, pupil } = offer;
    return pair(scan, device, pupil, true);
  };

  // What was handed out since the page was opened, newest first, each with its undo.
  const enter = (entry) => {
    list.unshift({ ...entry, at: new Date(), isUndone: false });
    drawList();
  };
  const drawList = () => {
    part("undo-last").disabled = !list.some((entry) => !entry.isUndone);
    part("count").textContent = String(list.filter((entry) => !entry.isUndone && entry.kind === "out").length);
    part("list").replaceChildren(...list.map((entry) => {
      const row = document.createElement("li");
      row.dataset.kind = entry.isUndone ? "undone" : entry.kind;
      const text = document.createElement("span");
      text.textContent = say(entry.isUndone ? "row-undone" : `row-${entry.kind}`, { serial: entry.serial, name: entry.person });
      const time = document.createElement("time");
      time.textContent = entry.at.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
      row.append(time, text);
      if (!entry.isUndone) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = say("undo");
        button.setAttribute("aria-label", `${say("undo")}: ${entry.serial}, ${entry.person}`);
        button.addEventListener("click", () => undo(entry));
        row.append(button);
      }
      return row;
    }));
  };
  const undo = async (entry) => {
    field.focus();
    try {
      const what = entry.kind === "out" ? "undo" : "reopen";
      await call(`/api/v1/assignments/${entry.assignment}/${what}`, {});
    } catch (error) { return refuse(entry.serial, error.message); }
    entry.isUndone = true;
    drawList();
    beep("half");
    show("idle", say("undone"), `${entry.serial} · ${entry.person}`, say("scan-next"));
    refreshClass();
  };

  // Who of the class is still without.
  const refreshClass = async () => {
    const box = part("without");
    if (!box) return;
    try {
      const { site, class: name } = box.dataset;
      const query = new URLSearchParams({ site, class: name });
      const hand = await call(`/api/v1/assignments/class?${query}`);
      const without = hand.pupils.filter((pupil) => pupil.devices.length === 0);
      part("without-count").textContent = say("without", { n: without.length, of: hand.pupils.length });
      box.replaceChildren(...without.map((pupil) => {
        const row = document.createElement("li");
        row.textContent = pupil.name;
        return row;
      }));
    } catch { /* The list is old until the next hand-out; the line's state is shown. */ }
  };

  const scanned = (text) => {
    text = text.trim();
    const at = Date.now();
    // A scanner whose trigger bounces reads the same twice; a person is slower.
    if (!text || (text === latest.text && at - latest.at < BOUNCE_MS)) return;
    latest = { text, at };
    queue.push({ text: text.slice(0, 300) });
    store();
    work();
    waiting();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || (event.key === "Tab" && field.value.trim() && !event.shiftKey)) {
      event.preventDefault();
      const text = field.value;
      field.value = "";
      scanned(text);
    } else if (event.key === "Escape") {
      field.value = "";
      settle(taken);
      begin();
      idle();
    }
  });
  field.form?.addEventListener("submit", (event) => event.preventDefault());
  // A scanner doesn't look where the cursor is: what it types goes into the field, wherever the focus was.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.key.toLowerCase() === "z" && !part("undo-last").disabled) {
      event.preventDefault();
      undo(list.find((entry) => !entry.isUndone));
      return;
    }
    const target = event.target;
    const isElsewhere = target === field || target.closest?.("input, textarea, select, dialog");
    if (isElsewhere || event.ctrlKey || event.metaKey || event.altKey || event.key.length !== 1) return;
    if (event.key === " " && target.closest?.("button, a, summary")) return;
    event.stopPropagation();
    field.focus();
  }, true);
  // After a click on nothing in particular the field has the focus again.
  document.addEventListener("pointerup", () => setTimeout(() => {
    const now = document.activeElement;
    if (!now || now === document.body) field.focus();
  }));
  window.addEventListener("focus", () => { if (document.activeElement === document.body) field.focus(); });
  window.addEventListener("online", () => work());

  for (const choice of page.querySelectorAll("[name=assign-mode]")) {
    choice.addEventListener("change", () => {
      mode = choice.value;
      page.dataset.mode = mode;
      settle(taken);
      begin();
      part("condition").hidden = true;
      idle();
      field.focus();
    });
  }
  const sound = part("sound");
  const drawSound = () => {
    sound.setAttribute("aria-pressed", String(!isMuted()));
    sound.textContent = say(isMuted() ? "sound-off" : "sound-on");
  };
  sound.addEventListener("click", () => {
    localStorage.setItem(MUTED, isMuted() ? "no" : "yes");
    drawSound();
    field.focus();
    beep("done");
  });
  part("undo-last").addEventListener("click", () => undo(list.find((entry) => !entry.isUndone)));
  const condition = part("condition");
  condition.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    const note = condition.elements.namedItem("condition");
    try {
      await call(`/api/v1/assignments/${last}/return`, { condition: note.value });
      note.value = "";
      show("done", say("noted"), "", say("scan-next"));
    } catch (error) { refuse(say("not-noted"), error.message); }
    field.focus();
  });

  drawSound();
  drawList();
  idle();
  field.focus();
  page.dataset.ready = "yes";
  work();
})();
