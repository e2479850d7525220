// What is done with the devices that are ticked in the overview.
//
// A row has `<input class="pick" value="DEVICE" data-run="RUN" data-name="…">`, `input.pick-all` in the head ticks all rows
// that are shown, and `#bulk` appears while any is ticked. Its buttons: `data-each="POST /api/v1/runs/{run}/retry"` asks
// once per device, `data-members="add"` changes a collection at once. `data-ask` is the question, with `{n}`; `data-typed` the
// text that must be typed, once for all, and `data-words` what that says of each device to the API, with `{serial}`. Only rows that are still there when the question is answered are touched: a row that a filter
// hides isn't on the page. `data-open` goes to a page about the ticked ones, with `{serials}` in its address. Live updates keep ticks (`live.js`).
"use strict";
(() => {
  // Requests under way at once: a server does other things too.
  const AT_ONCE = 4;
  const bar = document.getElementById("bulk");
  const result = document.getElementById("bulk-result");
  if (!bar) return;
  const { say, send, confirm } = window.forestage;
  const all = document.querySelector("input.pick-all");
  const ticked = () => [...document.querySelectorAll("input.pick:checked")];

  const count = () => {
    const number = ticked().length;
    bar.hidden = number === 0;
    bar.querySelector("[data-count]").textContent = say("selected", number);
    const rows = document.querySelectorAll("input.pick").length;
    if (!all) return;
    all.checked = number > 0 && number === rows;
    all.indeterminate = number > 0 && number < rows;
  };
  const tick = (boxes, on) => {
    boxes.forEach((box) => { box.checked = on; });
    count();
  };
  document.addEventListener("change", (event) => {
    if (event.target === all) tick(document.querySelectorAll("input.pick"), all.checked);
    else if (event.target.matches?.("input.pick")) count();
  });
  // Rows come and go.
  document.addEventListener("forestage:rows", count);
  bar.querySelector("[data-untick]").addEventListener("click", () => tick(ticked(), false));
  // A page about those that are ticked.
  bar.querySelectorAll("button[data-open]").forEach((button) => button.addEventListener("click", () => {
    const serials = ticked().map((box) => box.dataset.serial).join(" ");
    location.assign(button.dataset.open.replace("{serials}", () => encodeURIComponent(serials)));
  }));

  // --- What came of it -----------------------------------------------------------------------------------------
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const tell = (done, refused) => {
    const lines = [];
    const line = (tag, text) => { const element = document.createElement(tag); element.textContent = text; lines.push(element); return element; };
    line("p", say("bulk-done", done));
    if (refused.length > 0) {
      line("p", say("bulk-refused", refused.length));
      const list = document.createElement("ul");
      for (const { name, why } of refused) {
        const item = document.createElement("li");
        const who = document.createElement("b");
        who.textContent = name;
        item.append(who, ` ${capital(why)}`);
        list.append(item);
      }
      lines.push(list);
    }
    result.className = refused.length > 0 ? "bulk-result card refused" : "bulk-result card";
    result.replaceChildren(...lines);
    result.hidden = false;
  };
  const explain = (error) => [error.message, error.hint].filter(Boolean).join("; ");

  // --- Doing it --------------------------------------------------------------------------------------------------
  const each = async (machines, what, words) => {
    const [method, path] = what.split(" ");
    const done = [];
    const refused = [];
    const waiting = [...machines];
    const work = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        if (!next.run) { refused.push({ ...next, why: say("bulk-no-run") }); continue; }
        try {
          const body = words ? { confirm: words.replace("{serial}", () => next.serial) } : {};
          await send({ method, path: path.replace("{run}", next.run), body: JSON.stringify(body) });
          done.push(next);
        } catch (error) { refused.push({ ...next, why: explain(error) }); }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return { done, refused };
  };
  // All or none, as the API does it; if it refuses, each is tried by itself, so that one stranger doesn't stop the others.
  const members = async (machines, collection, change) => {
    const path = `/api/v1/collections/${encodeURIComponent(collection)}/members`;
    const change_ = (some) => send({ method: "POST", path, body: JSON.stringify({ add: [], remove: [], [change]: some.map((one) => one.device) }) });
    try {
      await change_(machines);
      return { done: machines, refused: [] };
    } catch { /* Below it is found out who is meant. */ }
    const done = [];
    const refused = [];
    for (const machine of machines) {
      try { await change_([machine]); done.push(machine); } catch (error) { refused.push({ ...machine, why: explain(error) }); }
    }
    return { done, refused };
  };

  bar.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-ask]");
    if (!button || bar.hasAttribute("aria-busy")) return;
    const collection = button.dataset.members ? bar.querySelector("select[name=collection]").value : "";
    if (button.dataset.members && !collection) { bar.querySelector("select[name=collection]").focus(); return; }
    const asked = ticked().map((box) => ({ device: box.value, name: box.dataset.name, serial: box.dataset.serial }));
    const fill = (text) => text.replace("{n}", asked.length).replace("{collection}", collection);
    button.dataset.confirm = fill(button.dataset.ask);
    if (button.dataset.typed) button.dataset.confirmType = fill(button.dataset.typed);
    if (!(await confirm(button))) return;
    // What was asked about may have left the page meanwhile; what is there may have another run.
    const boxes = new Map(ticked().map((box) => [box.value, box]));
    const there = asked.filter((one) => boxes.has(one.device)).map((one) => ({ ...one, run: boxes.get(one.device).dataset.run }));
    const left = asked.filter((one) => !boxes.has(one.device)).map((one) => ({ ...one, why: say("bulk-not-shown") }));
    bar.setAttribute("aria-busy", "");
    const buttons = [...bar.querySelectorAll("button, select")];
    buttons.forEach((one) => { one.disabled = true; });
    const { done, refused } = await (button.dataset.members
      ? members(there, collection, button.dataset.members)
      : each(there, button.dataset.each, button.dataset.words));
    buttons.forEach((one) => { one.disabled = false; });
    bar.removeAttribute("aria-busy");
    const are = new Set(done.map((one) => one.device));
    tick(ticked().filter((box) => are.has(box.value)), false);
    tell(done.length, [...refused, ...left]);
    result.focus();
  });
  count();
})();
