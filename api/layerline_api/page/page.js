// What every page does beside being read: local time, light and dark, keys, copying, looking again. Nothing needs it.
"use strict";
{ // a block: names of one script are not those of another
const one = (selector) => document.querySelector(selector);

// ---- times: each <time> holds UTC; what is shown is the reader's own, with UTC on hover
const two = (number) => String(number).padStart(2, "0");
function localTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime.replace(/(\.\d{3})\d+/, "$1"));
    if (Number.isNaN(at.getTime()) || time.dataset.utc) continue;
    time.dataset.utc = time.textContent;
    time.title = `${time.textContent.replace(/ UTC$/, "")} UTC`;
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
    time.textContent = /^\d{4}/.test(time.dataset.utc) ? `${day} ${clock}` : clock;
  }
}

// ---- light and dark: in a cookie, so that the next page comes in the right colours
function turnTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `layerline_theme=${root.dataset.theme}; path=/; max-age=31536000; SameSite=Strict`;
}

// ---- saying something in passing
function say(text) {
  one(".said")?.remove();
  const said = Object.assign(document.createElement("p"), { className: "said", textContent: text });
  said.setAttribute("role", "status");
  document.body.append(said);
  setTimeout(() => said.remove(), 2500);
}

// ---- copying: data-copy="link" | "curl" (of the address in data-from) | "text" (which data-from answers) | "this" (data-text)
async function copy(button) {
  const from = new URL(button.dataset.from ?? location.href, location.href).href;
  let text = from;
  if (button.dataset.copy === "curl") text = `curl '${from.replaceAll("'", "%27")}'`;
  if (button.dataset.copy === "this") text = button.dataset.text;
  if (button.dataset.copy === "text") {
    const answer = await fetch(from).catch(() => null);
    if (!answer?.ok) return say("the server did not answer");
    text = await answer.text();
  }
  try {
    await navigator.clipboard.writeText(text);
  } catch { // without HTTPS, beyond this machine: the old way
    const box = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  say(button.dataset.copy === "link" ? "the address is copied" : "copied");
}

// ---- looking again: what is read, unfolded or marked stays where it is
let isOn = true;
async function look() {
  const main = one("main");
  const isBusy = main.contains(document.activeElement) && /INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName);
  if (!main.dataset.refresh || !isOn || document.hidden || isBusy || !getSelection().isCollapsed) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  const lost = one("#lost");
  lost.hidden = Boolean(answer?.ok);
  if (answer?.ok) delete lost.dataset.since;
  if (!answer?.ok) {
    if (answer?.status === 401) location.reload();
    lost.dataset.since ??= new Date().toLocaleTimeString("en", { hour12: false });
    const how = answer ? `answers with an error (HTTP ${answer.status})` : "does not answer";
    lost.textContent = `The server ${how} since ${lost.dataset.since}: this is what was known before. It is asked again every 30 seconds.`;
    return;
  }
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  if (!next) return;
  const key = (details) => details.id || details.querySelector("summary")?.textContent.trim();
  const open = new Set([...main.querySelectorAll("details[open]")].map(key));
  for (const details of next.querySelectorAll("details")) details.open = open.has(key(details));
  const focused = document.activeElement?.id;
  const y = scrollY;
  localTimes(next);
  main.replaceChildren(...next.childNodes);
  scrollTo(0, y);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("layerline:shown"));
}
function turnRefresh() {
  isOn = !isOn;
  one("#refresh").setAttribute("aria-pressed", String(isOn));
  one("#refresh").textContent = isOn ? "refresh" : "refresh: off";
  if (isOn) look();
}

// ---- keys
const pages = [...document.querySelectorAll(".top nav a")];
const KEYS = {
  "?": ["these keys", showKeys],
  "/": ["write into the first box", () => one(".asked input, .asked select")?.focus()],
  r: ["look again by itself, or not", () => one("main").dataset.refresh && turnRefresh()],
  c: ["copy the address", () => copy({ dataset: { copy: "link" } })],
  d: ["light or dark", turnTheme],
  "[": ["earlier", () => one("[data-key=earlier]")?.click()],
  "]": ["later", () => one("[data-key=later]")?.click()],
  "-": ["a longer time", () => one("[data-key=wider]")?.click()],
  "+": ["a shorter time", () => one("[data-key=narrower]")?.click()],
};
pages.slice(0, 9).forEach((link, number) => { KEYS[number + 1] = [link.textContent, () => link.click()]; });
function showKeys() {
  if (one("dialog[open]")) return one("dialog").close();
  one("dialog")?.remove();
  const dialog = document.createElement("dialog");
  const list = document.createElement("dl");
  for (const [key, [what]] of Object.entries(KEYS)) {
    const term = document.createElement("dt");
    term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
    list.append(term, Object.assign(document.createElement("dd"), { textContent: what }));
  }
  dialog.append(Object.assign(document.createElement("h2"), { textContent: "Keys" }), list);
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
document.addEventListener("keydown", (pressed) => {
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || /INPUT|SELECT|TEXTAREA/.test(pressed.target.tagName)) return;
  const known = KEYS[pressed.key];
  if (known) {
    pressed.preventDefault();
    known[1]();
  }
});

// ---- once the page is there
localTimes(document);
for (const id of ["theme", "keys"]) one(`#${id}`).hidden = false;
one("#refresh").hidden = !one("main").dataset.refresh;
one("#theme").addEventListener("click", turnTheme);
one("#keys").addEventListener("click", showKeys);
one("#refresh").addEventListener("click", turnRefresh);
for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
document.addEventListener("layerline:shown", () => {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
});
document.addEventListener("click", (clicked) => {
  const button = clicked.target.closest("[data-copy]");
  if (button) copy(button);
});
setInterval(look, 30_000);
}
