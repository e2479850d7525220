// Receipts are handed in: all files in one request, first as a dry run, whose answer is shown; then for good.
"use strict";
(() => {
  // Rows that are shown; the counts are of all.
  const ROWS_MAX = 200;
  const form = document.getElementById("hand-in");
  const report = document.getElementById("report");
  if (!form) return;
  const { send, showProblem, clearProblem, busy, toastNext } = window.forestage;
  const accept = document.getElementById("accept");
  const more = document.getElementById("more-rows");
  const kinds = [...report.querySelectorAll("[data-kind]")];
  let files = [];
  let rows = [];

  // A folder holds other things, too: what a Mac leaves there, or a list of contents.
  const isReceipt = (file) => /^[^.].*\.json$/i.test(file.name);
  const read = () => {
    const chosen = [...document.getElementById("files").files, ...[...document.getElementById("folder").files].filter(isReceipt)];
    return Promise.all(chosen.map(async (file) => ({ name: file.webkitRelativePath || file.name, text: await file.text() })));
  };
  const request = (dryRun) => ({ method: "POST", path: "/api/v1/receipts/import", body: JSON.stringify({ "dry-run": dryRun, files }) });

  // --- What each file would do -------------------------------------------------------------------------------
  const chip = (kind) => document.getElementById("chips").content.querySelector(`[data-chip="${kind}"]`).cloneNode(true);
  const line = (row) => {
    const element = document.getElementById("row").content.firstElementChild.cloneNode(true);
    const receipt = row.receipt;
    const fill = (part, content) => element.querySelector(`[data-part="${part}"]`).replaceChildren(content || "—");
    fill("file", row.file);
    fill("result", chip(row.result));
    fill("why", row.why ?? receipt?.errors.join(": "));
    for (const part of ["serial", "model", "outcome", "prestage"]) fill(part, "");
    if (receipt) {
      fill("serial", receipt.serial);
      fill("model", `${receipt.vendor} ${receipt.product}`.trim());
      fill("outcome", chip(receipt.result));
      fill("prestage", receipt.prestage && `${receipt.prestage}@${receipt["prestage-version"]}`);
    }
    return element;
  };
  const show = (kind) => {
    kinds.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.kind === kind)));
    const fitting = rows.filter((row) => kind === "" || row.result === kind);
    report.querySelector("tbody").replaceChildren(...fitting.slice(0, ROWS_MAX).map(line));
    more.hidden = fitting.length <= ROWS_MAX;
    more.textContent = more.dataset.text.replace("{n}", fitting.length - ROWS_MAX);
  };
  kinds.forEach((button) => button.addEventListener("click", () => show(button.dataset.kind)));
  const tell = (answer) => {
    // What needs a look comes first.
    const order = ["refused", "new", "known"];
    rows = answer.rows.toSorted((one, two) => order.indexOf(one.result) - order.indexOf(two.result));
    for (const button of kinds) {
      const count = button.dataset.kind === "" ? rows.length : answer[button.dataset.kind];
      button.querySelector("b").textContent = count;
      button.hidden = count === 0 && button.dataset.kind !== "";
    }
    accept.hidden = answer.new === 0;
    accept.textContent = answer.new === 1 ? accept.dataset.one : accept.dataset.many.replace("{n}", answer.new);
    document.getElementById("nothing-new").hidden = answer.new > 0;
    show("");
    report.hidden = false;
    report.focus();
  };

  const ask = async (holder, dryRun, then) => {
    clearProblem(form);
    busy(holder, true);
    try {
      const answer = await send(request(dryRun));
      busy(holder, false);
      then(answer);
    } catch (error) {
      busy(holder, false);
      showProblem(form, error);
    }
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    report.hidden = true;
    files = await read();
    if (files.length > 0) ask(form, true, tell);
    else document.getElementById("files").focus();
  });
  accept.addEventListener("click", () => ask(accept, false, () => {
    toastNext(accept.dataset.done);
    location.assign("/receipts");
  }));
})();
