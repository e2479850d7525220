// Answers with a secret: `data-secret="key"` on a form or a button names the field of the answer that is shown once.
"use strict";
(() => {
  document.addEventListener("forestage:done", (event) => {
    const key = event.target.dataset.secret;
    const secret = key && event.detail?.[key];
    if (!secret) return;
    event.preventDefault();
    const dialog = document.createElement("dialog");
    dialog.className = "dialog";
    const label = document.createElement("label");
    label.textContent = window.forestage.say("shown-once");
    const field = document.createElement("input");
    field.readOnly = true;
    field.value = secret;
    field.size = Math.min(secret.length + 2, 70);
    label.append(field);
    const row = document.createElement("div");
    row.className = "buttons";
    const copy = document.createElement("button");
    copy.type = "button";
    copy.textContent = window.forestage.say("copy");
    copy.addEventListener("click", async () => {
      field.select();
      await navigator.clipboard.writeText(secret);
    });
    const close = document.createElement("button");
    close.type = "button";
    close.className = "primary";
    close.textContent = window.forestage.say("close");
    close.addEventListener("click", () => dialog.close());
    row.append(copy, close);
    dialog.append(label, row);
    dialog.addEventListener("close", () => location.reload());
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  });
})();
