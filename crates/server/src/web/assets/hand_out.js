// What an import of a list did: counts, and each row that was refused or is unusual, with its line.
"use strict";
(() => {
  document.addEventListener("forestage:done", (event) => {
    const form = event.target;
    if (!form.matches?.("[data-report]")) return;
    event.preventDefault();
    const report = event.detail;
    const box = [...document.querySelectorAll("[data-report-of]")].find((box) => box.dataset.reportOf === form.dataset.api);
    const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
    const line = document.createElement("p");
    line.textContent = `${fill(box.dataset.said, report)}. ${report.stored ? box.dataset.stored : box.dataset.notStored}`;
    const list = document.createElement("ul");
    const reasons = JSON.parse(box.dataset.reasons);
    const say = (one) => fill(reasons[one.code] ?? one.text ?? one.code, one);
    for (const row of report.rows.filter((row) => row.said.length).slice(0, 200)) {
      const item = document.createElement("li");
      item.textContent = `${fill(box.dataset.line, { n: row.line })}, ${row.subject}: ${row.said.map(say).join("; ")}`;
      list.append(item);
    }
    box.replaceChildren(line, list);
    box.dataset.state = report.invalid ? "bad" : "good";
  });
})();
