// Tables: sorting by column, finding rows by what stands in them, moving and choosing by keyboard. The address keeps it.
//
// `<table data-sort>` is sorted by pressing the title of a column, and gets a field that narrows it. Rows that can be
// chosen have `<input type="checkbox" data-row name="…" value="…" form="ID" data-type="each">`; `<input data-all>` in the
// head chooses all that are shown, and `[data-bulk]` is shown while any is chosen, with their number in `[data-count]`.
// Keys: j and k go down and up, x chooses, Enter follows the row's first link.
"use strict";
(() => {
  const { say } = window.forestage;
  // Below this a table is read at a glance, and a field to narrow it is in the way.
  const ROWS_WORTH_NARROWING = 12;
  const collator = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });
  const keep = (key, value) => {
    const address = new URL(location.href);
    if (value) address.searchParams.set(key, value); else address.searchParams.delete(key);
    history.replaceState(null, "", address);
  };
  const kept = (key) => new URL(location.href).searchParams.get(key) ?? "";

  const cellKey = (row, index) => {
    const cell = row.cells[index];
    if (!cell) return "";
    const time = cell.querySelector("time[datetime]");
    return cell.dataset.key ?? time?.getAttribute("datetime") ?? cell.textContent.trim();
  };
  const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };
  const numberOf = (text) => {
    const found = /^(-?[\d\u00a0 ]+(?:[.,]\d+)?)\s*(B|kB|MB|GB|TB)?/.exec(text);
    if (!found) return Number.NEGATIVE_INFINITY;
    return Number(found[1].replace(/[\u00a0 ]/g, "").replace(",", ".")) * (UNITS[found[2]] ?? 1);
  };

  const sortBy = (table, index, down) => {
    const body = table.tBodies[0];
    const head = table.tHead.rows[0].cells;
    const isNumber = head[index].classList.contains("number");
    const keyed = [...body.rows].map((row) => [cellKey(row, index), row]);
    const order = isNumber ? (a, b) => numberOf(a) - numberOf(b) : (a, b) => collator.compare(a, b);
    keyed.sort(([a], [b]) => (down ? order(b, a) : order(a, b)));
    body.append(...keyed.map(([, row]) => row));
    [...head].forEach((cell) => cell.removeAttribute("aria-sort"));
    head[index].setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const sortable = (table, name) => {
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (!cell.textContent.trim() || cell.querySelector("input, button")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        sortBy(table, index, down);
        keep(`${name}sort`, `${index}${down ? "-" : ""}`);
      });
    });
    const [, index, down] = /^(\d+)(-?)$/.exec(kept(`${name}sort`)) ?? [];
    if (index !== undefined && table.tHead.rows[0].cells[Number(index)]) sortBy(table, Number(index), down === "-");
  };

  const narrow = (table, text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const own = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => own.includes(word));
    }
  };
  const narrowable = (table, name) => {
    if (table.tBodies[0].rows.length < ROWS_WORTH_NARROWING) return;
    const input = document.createElement("input");
    input.type = "search";
    input.className = "narrow";
    input.placeholder = say("narrow");
    input.setAttribute("aria-label", `${say("narrow")}: ${table.getAttribute("aria-label") ?? ""}`);
    input.value = kept(`${name}find`);
    (table.closest(".scroll") ?? table).before(input);
    input.addEventListener("input", () => {
      narrow(table, input.value);
      keep(`${name}find`, input.value.trim());
    });
    if (input.value) narrow(table, input.value);
  };

  const countChosen = () => {
    const chosen = document.querySelectorAll("input[data-row]:checked").length;
    document.querySelectorAll("[data-bulk]").forEach((bar) => {
      bar.hidden = chosen === 0;
      bar.querySelectorAll("[data-count]").forEach((place) => { place.textContent = say("selected", chosen); });
    });
    document.querySelectorAll("input[data-all]").forEach((all) => {
      const rows = all.closest("table").querySelectorAll("input[data-row]").length;
      all.checked = rows > 0 && chosen === rows;
      all.indeterminate = chosen > 0 && chosen < rows;
    });
  };
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("input[data-all]")) {
      event.target.closest("table").querySelectorAll("tbody tr:not([hidden]) input[data-row]")
        .forEach((box) => { box.checked = event.target.checked; });
    }
    if (event.target.matches?.("input[data-all], input[data-row]")) countChosen();
  });

  // --- By keyboard ---------------------------------------------------------------------------------------------
  let current = null;
  const rowsOf = () => [...document.querySelectorAll("table[data-sort] tbody tr:not([hidden]), .devices .device > tr:first-child")];
  // A row of the overview is drawn anew when something happens to its device.
  const currentRow = () => (current?.isConnected ? current : document.getElementById(current?.parentElement?.id ?? "")?.rows[0] ?? null);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
    const step = { j: 1, k: -1 }[event.key];
    if (step) {
      const rows = rowsOf();
      if (rows.length === 0) return;
      const at = rows.indexOf(currentRow());
      current?.classList.remove("current");
      current = rows[Math.min(rows.length - 1, Math.max(0, at + step))] ?? rows[0];
      current.classList.add("current");
      current.scrollIntoView({ block: "nearest" });
      current.querySelector("a[href], input:not(.pick), button")?.focus({ preventScroll: true });
    } else if (event.key === "x") {
      currentRow()?.querySelector("input[data-row], input.pick")?.click();
    }
  });

  document.querySelectorAll("table[data-sort]").forEach((table, index) => {
    const name = index === 0 ? "" : `t${index}-`;
    sortable(table, name);
    narrowable(table, name);
  });
  countChosen();
})();
