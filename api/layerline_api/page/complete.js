// Completes the tag that is being written at the end of the query box, from /api/v1/tags. Without it the box works too.
"use strict";
for (const box of document.querySelectorAll("[data-complete=tags]")) {
  let asked = 0;
  const complete = async () => {
    const [, before, key, colon, begun] = /^((?:.*[\s(])?-?)([^\s():"]*)(:?)"?([^"()]*)$/s.exec(box.value) ?? [];
    if (key === undefined || (!colon && begun)) return;
    const path = colon ? `/api/v1/tags/${encodeURIComponent(key)}` : "/api/v1/tags";
    const prefix = colon ? begun : key;
    const now = ++asked;
    const answer = await fetch(`${path}?limit=30&prefix=${encodeURIComponent(prefix)}`).catch(() => null);
    if (!answer?.ok || now !== asked) return;
    const { items } = await answer.json();
    const written = (value) => (/[\s()"]/.test(value) ? `"${value.replace(/(["\\])/g, "\\$1")}"` : value);
    box.list.replaceChildren(
      ...items.map((item) => {
        const option = document.createElement("option");
        option.value = before + (colon ? `${key}:${written(item.value)}` : `${item.key}:`);
        return option;
      }),
    );
  };
  box.addEventListener("input", complete);
  box.addEventListener("focus", complete);
}
