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
  return { say, toast, toastNext, localTimes };
})();
