// Forms that call the admin API: `<form data-api="PUT /api/v1/sites/{code}">`.
//
// The fields become the JSON body by their names; those named in the path go there, with `data-too` into both. `data-type` on a field says what it
// is: `number`, `minutes` (`16` or `1:30`, sent as seconds), `boolean`, `json`, `value` (JSON or a text), `list` (comma or line separated), `lines`, `secret` (without a line break at the end), `omit` (left out), `text` (the default);
// an empty field is left out unless `data-empty="send"`. A name with dots makes objects. Several checkboxes of one name
// with `data-type="each"` make a list. `<input type="file" data-body>` sends the file's bytes as the whole body, and the
// other fields become the query; `data-named="file"` puts the file's name there under that key. `data-query` on a field puts
// it into the query too. `data-in="mapping"` puts a field into that object under its name as it is, dots and all, and
// `data-changed` sends it only if it was changed; `data-named-by="key"` under the name that stands in the field `key`.
// `data-then` is where to go afterwards (`{key}` or `{key.key}` from the reply); without it the page is loaded again. `data-done` is
// what to say. A button with `data-confirm` asks first; with `data-confirm-type` the text must be typed.
// A button alone may carry `data-api` too: it sends its `data-body` (JSON), or nothing.
"use strict";
(() => {
  const { say, toast, toastNext } = window.forestage;

  const valueOf = (field) => {
    const type = field.dataset.type ?? (field.type === "checkbox" ? "boolean" : field.type === "number" ? "number" : "text");
    const text = field.value;
    if (type === "boolean") return field.type === "checkbox" ? field.checked : text === "true";
    if (text.trim() === "" && field.dataset.empty !== "send") return undefined;
    if (type === "number") {
      if (!/^-?\d+$/.test(text.trim())) throw Object.assign(new Error(say("not-a-number")), { field });
      return Number(text);
    }
    if (type === "minutes") {
      const parts = text.trim().match(/^(\d{1,5})(?::([0-5]\d))?$/);
      if (text.trim() !== "" && !parts) throw Object.assign(new Error(say("not-minutes")), { field });
      return parts ? Number(parts[1]) * 60 + Number(parts[2] ?? 0) : 0;
    }
    if (type === "json") {
      try { return JSON.parse(text); } catch { throw Object.assign(new Error(say("not-json")), { field }); }
    }
    // What a person means: a number, a truth, a list, or else a text.
    if (type === "value") {
      try { return JSON.parse(text); } catch { return text; }
    }
    if (type === "list") return text.split(/[,\n]/).map((part) => part.trim()).filter(Boolean);
    if (type === "lines") return text.split("\n").map((part) => part.trim()).filter(Boolean);
    // As `forestage secret set` reads it: the line break that an editor leaves at the end is no part of it.
    if (type === "secret") return text.replace(/\n$/, "");
    return text;
  };
  const put = (body, name, value) => {
    const parts = name.split(".");
    let place = body;
    for (const part of parts.slice(0, -1)) place = place[part] ??= {};
    place[parts.at(-1)] = value;
  };

  // What a form asks of the API: method, path with query, body.
  const requestOf = (form) => {
    let [method, path] = form.dataset.api.split(" ");
    const body = {};
    const query = new URLSearchParams();
    let raw = null;
    const inPath = (name) => path.includes(`{${name}}`);
    for (const field of form.elements) {
      if (!field.name && field.dataset.body === undefined) continue;
      if (field.disabled || field.type === "submit" || field.type === "button" || field.tagName === "FIELDSET") continue;
      if (field.type === "radio" && !field.checked) continue;
      if (field.dataset.type === "omit") continue;
      if (field.dataset.body !== undefined) {
        raw = field.type === "file" ? field.files[0] : field.value;
        if (field.dataset.named && raw?.name) query.append(field.dataset.named, raw.name);
        continue;
      }
      if (field.dataset.type === "each") {
        const list = (body[field.name] ??= []);
        if (field.type !== "checkbox" || field.checked) list.push(field.value);
        continue;
      }
      if (field.dataset.changed !== undefined && field.value === field.defaultValue) continue;
      const value = valueOf(field);
      if (field.dataset.in !== undefined) {
        const name = field.dataset.namedBy ? form.elements.namedItem(field.dataset.namedBy).value.trim() : field.name;
        if (value !== undefined) (body[field.dataset.in] ??= {})[name] = value;
        continue;
      }
      if (inPath(field.name)) {
        path = path.replace(`{${field.name}}`, encodeURIComponent(value ?? ""));
        if (field.dataset.too !== undefined) put(body, field.name, value);
      } else if (value === undefined) continue;
      else if (field.dataset.query !== undefined) query.append(field.name, String(value));
      else put(body, field.name, value);
    }
    if (raw !== null) for (const [name, value] of Object.entries(body)) query.append(name, String(value));
    if ([...query].length > 0) path += (path.includes("?") ? "&" : "?") + query;
    return { method, path, body: raw ?? (method === "GET" ? undefined : JSON.stringify(body)), raw: raw !== null };
  };

  const capital = (text) => {
    const sentence = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!?…]$/.test(sentence) ? sentence : `${sentence}.`;
  };

  const send = async ({ method, path, body, raw, type }) => {
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = raw ? type ?? "application/octet-stream" : "application/json";
    if (method !== "GET") headers["Idempotency-Key"] = crypto.randomUUID();
    let answer;
    try {
      answer = await fetch(path, { method, headers, body, credentials: "same-origin" });
    } catch {
      throw new Error(say("unreachable"));
    }
    const text = await answer.text();
    let reply = null;
    try { reply = text ? JSON.parse(text) : null; } catch { reply = text; }
    if (answer.ok) return reply;
    if (answer.status === 401) throw new Error(say("signed-out"));
    // What the code of a refusal says in the visitor's language comes first; its details are in English.
    const message = reply?.message ?? reply?.detail ?? reply?.title ?? say("refused");
    const details = [message, reply?.hint].filter(Boolean).map(capital).join(" ");
    const told = reply?.said ? { hint: details, hintIsEnglish: true } : { hint: reply?.hint };
    throw Object.assign(new Error(reply?.said ?? message), { ...told, fieldName: reply?.field, status: answer.status });
  };

  // Says what went wrong at the field it is about, or at the form's head, and puts the focus there.
  const showProblem = (holder, error) => {
    clearProblem(holder);
    const field = error.field ?? (error.fieldName && holder.elements?.namedItem(error.fieldName));
    const box = document.createElement("div");
    box.className = "problem";
    box.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.textContent = capital(error.message);
    box.append(text);
    if (error.hint) {
      const hint = document.createElement("p");
      hint.className = "muted";
      if (error.hintIsEnglish) hint.lang = "en";
      hint.textContent = capital(error.hint);
      box.append(hint);
    }
    if (field instanceof Element) {
      box.id = `problem-${field.name}`;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", box.id);
      field.after(box);
      field.focus();
    } else if (holder.tagName === "FORM") {
      holder.prepend(box);
      box.scrollIntoView({ block: "nearest" });
    } else {
      toast([error.message, error.hint].filter(Boolean).map(capital).join(" "), true);
    }
  };
  const clearProblem = (holder) => {
    holder.querySelectorAll?.(".problem").forEach((box) => box.remove());
    holder.querySelectorAll?.("[aria-invalid]").forEach((field) => {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    });
  };

  const finish = (holder, reply) => {
    const done = holder.dataset.done;
    const event = new CustomEvent("forestage:done", { bubbles: true, cancelable: true, detail: reply });
    if (!holder.dispatchEvent(event)) return;
    // Nothing was done after all: the page says why.
    if (reply?.applied === false) {
      location.reload();
      return;
    }
    const then = holder.dataset.then;
    if (then === "stay") {
      toast(done ?? say("done"));
      return;
    }
    toastNext(done ?? say("done"));
    if (then === undefined) location.reload();
    else location.assign(then.replace(/\{([^}]+)\}/g, (_, keys) => encodeURIComponent(keys.split(".").reduce((part, key) => part?.[key], reply) ?? "")));
  };

  const busy = (holder, on) => {
    holder.toggleAttribute("aria-busy", on);
    const buttons = holder.tagName === "FORM" ? holder.querySelectorAll("button") : [holder];
    buttons.forEach((button) => { button.disabled = on; });
  };

  // --- Asking first ------------------------------------------------------------------------------------------
  const confirm = (button) => new Promise((resolve) => {
    const typed = button.dataset.confirmType;
    const dialog = document.createElement("dialog");
    dialog.className = "dialog";
    dialog.setAttribute("aria-labelledby", "confirm-title");
    const form = document.createElement("form");
    form.method = "dialog";
    const title = document.createElement("h2");
    title.id = "confirm-title";
    title.textContent = button.dataset.confirm;
    form.append(title);
    let input = null;
    const yes = document.createElement("button");
    if (typed) {
      const label = document.createElement("label");
      label.textContent = say("type", typed);
      input = document.createElement("input");
      input.autocomplete = "off";
      input.spellcheck = false;
      label.append(input);
      form.append(label);
      yes.disabled = true;
      input.addEventListener("input", () => { yes.disabled = input.value.trim() !== typed; });
    }
    const no = document.createElement("button");
    no.type = "button";
    no.textContent = say("cancel");
    no.addEventListener("click", () => dialog.close());
    yes.value = "yes";
    yes.className = button.classList.contains("danger") ? "danger" : "primary";
    yes.textContent = button.dataset.confirmYes ?? button.textContent.trim();
    const row = document.createElement("div");
    row.className = "buttons";
    row.append(no, yes);
    form.append(row);
    dialog.append(form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      button.focus();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
    (input ?? no).focus();
  });

  const run = async (holder, button, request) => {
    if (holder.hasAttribute("aria-busy")) return;
    if (button?.dataset.confirm && !(await confirm(button))) return;
    clearProblem(holder);
    let asked;
    try { asked = request(); } catch (error) { showProblem(holder, error); return; }
    busy(holder, true);
    try {
      const reply = await send(asked);
      busy(holder, false);
      finish(holder, reply);
    } catch (error) {
      busy(holder, false);
      showProblem(holder, error);
    }
  };

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-api]");
    if (!form) return;
    event.preventDefault();
    run(form, event.submitter, () => requestOf(form));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-api]");
    if (!button) return;
    event.preventDefault();
    const [method, path] = button.dataset.api.split(" ");
    run(button, button, () => ({ method, path, body: button.dataset.body ?? "{}" }));
  });

  // --- A document that is checked as its writer pauses ---------------------------------------------------------
  document.querySelectorAll("form[data-lint]").forEach((form) => {
    const text = form.querySelector("textarea[data-body]");
    const list = form.querySelector("#lint");
    let timer = 0;
    let asked = 0;
    const check = async () => {
      const number = ++asked;
      let findings;
      try {
        findings = await send({ method: "POST", path: form.dataset.lint, body: text.value, raw: true, type: "application/yaml" });
      } catch { return; }
      if (number !== asked) return;
      const lines = findings.map((finding) => {
        const item = document.createElement("li");
        item.className = `finding ${finding.severity}`;
        const place = finding.line > 0 ? `${finding.line}:${finding.column} ` : "";
        item.textContent = `${place}${finding.code} ${finding.message}`;
        if (finding.hint) {
          const hint = document.createElement("span");
          hint.className = "sub";
          hint.textContent = finding.hint;
          item.append(hint);
        }
        return item;
      });
      if (lines.length === 0) {
        const good = document.createElement("li");
        good.className = "muted";
        good.textContent = list.dataset.good;
        lines.push(good);
      }
      list.replaceChildren(...lines);
    };
    text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(check, 600); });
    // A document names itself: the name that it is given stands in it, too.
    form.elements.namedItem("name")?.addEventListener("input", (event) => {
      text.value = text.value.replace(/^sequence:.*$/m, `sequence: ${event.target.value.trim()}`);
      text.dispatchEvent(new Event("input"));
    });
  });

  Object.assign(window.forestage, { send, requestOf, showProblem, clearProblem, busy, confirm });
})();
