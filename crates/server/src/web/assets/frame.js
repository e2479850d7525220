// The frame's own: times in the reader's time zone, messages, and what the scripts say.
"use strict";
window.forestage = (() => {
  const said = new Map();
  for (const span of document.getElementById("words")?.content.children ?? []) said.set(span.dataset.key, span.textContent);
  // The text of this key in the page's language, with `{n}` filled in.
  const say = (key, n) => (said.get(key) ?? key).replace("{n}", n ?? "");

  // --- Times -------------------------------------------------------------------------------------------------
  const two = (number) => String(number).padStart(2, "0");
  const norwegian = document.documentElement.lang === "nb";
  const localTimes = (root) => {
    for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
      const utc = element.textContent;
      const at = new Date(element.getAttribute("datetime"));
      if (Number.isNaN(at.getTime())) continue;
      const [year, month, day] = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())];
      const date = norwegian ? `${day}.${month}.${year}` : `${year}-${month}-${day}`;
      element.textContent = `${date} ${two(at.getHours())}:${two(at.getMinutes())}`;
      element.title = utc;
    }
  };
  localTimes(document);

  // --- Messages ----------------------------------------------------------------------------------------------
  // A short message at the edge of the page, which a screen reader says too.
  const toast = (text, bad) => {
    const box = document.getElementById("toasts");
    if (!box) return;
    const line = document.createElement("p");
    line.className = bad ? "toast bad" : "toast";
    line.textContent = text;
    box.append(line);
    setTimeout(() => line.remove(), bad ? 12000 : 5000);
  };
  // A message that must survive the reload that follows it.
  const toastNext = (text) => sessionStorage.setItem("forestage-toast", text);
  const kept = sessionStorage.getItem("forestage-toast");
  if (kept) {
    sessionStorage.removeItem("forestage-toast");
    toast(kept);
  }
  // --- Going to a page or a device -----------------------------------------------------------------------------
  const places = () => [...document.querySelectorAll("#navigation li a")].map((link) => ({
    title: link.textContent.trim(), sub: say("pages"), address: link.getAttribute("href"),
  }));
  let palette = null;
  const buildPalette = () => {
    const dialog = document.createElement("dialog");
    dialog.className = "dialog palette";
    dialog.setAttribute("aria-label", say("search"));
    const input = document.createElement("input");
    input.type = "text";
    input.autocomplete = "off";
    input.spellcheck = false;
    input.placeholder = say("search");
    const list = document.createElement("ul");
    list.id = "palette-list";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", say("search"));
    for (const [key, value] of Object.entries({ role: "combobox", "aria-expanded": "true", "aria-controls": list.id, "aria-label": say("search") })) input.setAttribute(key, value);
    dialog.append(input, list);
    document.body.append(dialog);

    let chosen = 0;
    let asked = 0;
    const show = (entries) => {
      chosen = 0;
      list.replaceChildren(...entries.map((entry, index) => {
        const item = document.createElement("li");
        item.id = `palette-${index}`;
        item.setAttribute("role", "option");
        item.dataset.address = entry.address;
        const title = document.createElement("span");
        title.textContent = entry.title;
        const sub = document.createElement("span");
        sub.className = "muted";
        sub.textContent = entry.sub;
        item.append(title, sub);
        item.addEventListener("click", () => location.assign(entry.address));
        return item;
      }));
      if (entries.length === 0) {
        const none = document.createElement("li");
        none.className = "muted";
        none.setAttribute("role", "option");
        none.setAttribute("aria-disabled", "true");
        none.textContent = say("none-found");
        list.append(none);
      }
      mark();
    };
    const options = () => [...list.querySelectorAll("[role=option]")];
    const mark = () => {
      options().forEach((item, index) => {
        item.setAttribute("aria-selected", String(index === chosen));
        if (index === chosen) item.scrollIntoView({ block: "nearest" });
      });
      input.setAttribute("aria-activedescendant", options()[chosen]?.id ?? "");
    };
    const look = async () => {
      const text = input.value.trim().toLowerCase();
      const pages = places().filter((place) => place.title.toLowerCase().includes(text));
      const number = ++asked;
      show(pages);
      if (text.length < 2) return;
      await new Promise((later) => setTimeout(later, 150));
      if (number !== asked) return;
      try {
        const answer = await fetch(`/api/v1/find?text=${encodeURIComponent(text)}`);
        if (!answer.ok || number !== asked) return;
        const devices = (await answer.json()).map((device) => ({
          title: device.name ?? device.serial,
          sub: [device.name ? device.serial : "", device["asset-tag"], device["site-name"]].filter(Boolean).join(" · "),
          address: `/devices/${encodeURIComponent(device.serial)}`,
        }));
        show([...devices, ...pages]);
      } catch { /* The pages are found all the same. */ }
    };
    input.addEventListener("input", look);
    input.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        const count = options().length;
        if (count > 0) chosen = (chosen + step + count) % count;
        mark();
      } else if (event.key === "Enter") {
        event.preventDefault();
        const address = options()[chosen]?.dataset.address;
        if (address) location.assign(address);
      }
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    return { open: () => { input.value = ""; look(); dialog.showModal(); input.focus(); } };
  };
  const openPalette = () => { (palette ??= buildPalette()).open(); };
  const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || !document.getElementById("navigation")) return;
    const ctrlK = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
    const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target);
    if (!ctrlK && !slash) return;
    event.preventDefault();
    openPalette();
  });
  document.querySelectorAll("[data-palette]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", openPalette);
  });
  return { say, toast, toastNext, localTimes };
})();
