// The buttons that silence a monitor. They ask the API in JSON, which no other site can do from here.
"use strict";
for (const buttons of document.querySelectorAll("[data-silence]")) {
  buttons.hidden = false;
  buttons.addEventListener("click", async (clicked) => {
    const length = clicked.target.closest("[data-for]")?.dataset.for;
    if (length === undefined) return;
    const answer = await fetch(buttons.dataset.silence, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(length ? { for: length } : { until: null }),
    }).catch(() => null);
    if (answer?.ok) location.reload();
    else buttons.append(` The server refused it${answer ? ` (${answer.status})` : ""}.`);
  });
}
