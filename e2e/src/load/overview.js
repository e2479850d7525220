// Notes what the overview shows and when. Put into the page before its own scripts.
"use strict";
(() => {
  // Each change of a row that shows another step: run, step, milliseconds since 1970.
  const shown = [];
  // Each update of the page: characters that came, milliseconds until the page's script was done with it.
  const updates = [];
  const longTasksMs = [];
  let largestPaintMs = 0;

  const steps = new Map();
  const look = (row) => {
    const run = row.querySelector("th a[href^='/runs/']")?.getAttribute("href").slice("/runs/".length);
    const step = row.querySelector(".step .title")?.textContent;
    if (!run || !step || steps.get(run) === step) return;
    // What a row shows at first began at any time before.
    if (steps.has(run)) shown.push([run, step, Date.now()]);
    steps.set(run, step);
  };
  const rowOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest("tbody.device");
  new MutationObserver((records) => {
    const rows = new Set();
    for (const record of records) {
      rows.add(rowOf(record.target));
      record.addedNodes.forEach((node) => rows.add(rowOf(node)));
    }
    rows.delete(undefined);
    rows.delete(null);
    rows.forEach(look);
  }).observe(document, { subtree: true, childList: true, characterData: true });

  const listen = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function (name, hear) {
    listen.call(this, name, (event) => {
      const began = performance.now();
      hear(event);
      updates.push([event.data?.length ?? 0, performance.now() - began]);
    });
  };

  const watch = (type, note) => new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ type, buffered: true });
  watch("longtask", (task) => longTasksMs.push(task.duration));
  watch("largest-contentful-paint", (paint) => { largestPaintMs = paint.startTime; });

  // What was noted since this was last asked.
  const take = (list) => list.splice(0, list.length);
  window.measured = {
    take: () => ({ shown: take(shown), updates: take(updates), longTasksMs: take(longTasksMs) }),
    opening: () => {
      const [page] = performance.getEntriesByType("navigation");
      return {
        "first-byte-ms": page.responseStart,
        "first-paint-ms": performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
        "largest-paint-ms": largestPaintMs,
        "loaded-ms": page.loadEventEnd,
        "page-bytes": page.decodedBodySize,
        "page-bytes-sent": page.encodedBodySize,
      };
    },
  };
})();
