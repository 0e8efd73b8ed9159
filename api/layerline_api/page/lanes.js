// One cursor across all lanes of a picture, and zooming by dragging, with uPlot. What is seen is the server's drawing.
//
// A lane's values are read from its drawing: an edge at 2 is its highest value, one at 98 is 0; where no edge is, nothing
// was measured, and the cursor says so. uPlot draws nothing itself: it lies on the drawing, which the page has without it.
(() => {
"use strict";
const TOP = 2, BASE = 98;

// The edges of a path of M, H, V and Z, step by step: where it goes right the upper one, where it comes back the lower.
function edges(path, points) {
  const upper = new Array(points).fill(null), lower = new Array(points).fill(BASE);
  let x = 0, y = BASE;
  for (const [, letter, first, second] of path.matchAll(/([MHVZ])\s*(-?[\d.]*)\s*(-?[\d.]*)/g)) {
    if (letter === "M") [x, y] = [Number(first), Number(second)];
    if (letter === "V") y = Number(first);
    if (letter === "H") {
      const to = Number(first);
      if (to > x) upper.fill(y, x, to);
      else lower.fill(y, to, x);
      x = to;
    }
  }
  return upper.map((one, step) => (one === null ? null : (lower[step] - one) / (BASE - TOP)));
}

// ---- amounts as words/amounts.py says them
const shown = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
function time(ns) {
  if (ns < 999500) return ns ? `${shown(ns / 1e3, 0)} µs` : "0 ms";
  if (ns < 9950000) return `${shown(ns / 1e6, 1)} ms`;
  return ns < 9999500000 ? `${shown(ns / 1e6, 0)} ms` : `${shown(ns / 1e9, 1)} s`;
}
function amount(value, unit) {
  const [base, per] = unit.split("/");
  const rate = per === undefined ? "" : "/s";
  if (unit === "CPUs") return `${shown(value, 2)} CPUs`;
  if (unit === "s/s") return `${time(value * 1e9)}/s`;
  if (base === "ns") return time(value) + rate;
  if (base === "By") {
    const sizes = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = 0;
    while (Math.abs(value) >= 1024 && power < 4) [value, power] = [value / 1024, power + 1];
    return `${shown(value, power === 0 || value >= 100 ? 0 : 1)} ${sizes[power]}${rate}`;
  }
  if (base === "1") return `${shown(value * 100, 1)} %`;
  return `${Number(value.toPrecision(3)).toLocaleString("en")}${rate && " /s"}`;
}

const two = (number) => String(number).padStart(2, "0");
function clock(ms) {
  const at = new Date(ms);
  const tenths = ms % 1000 ? `.${Math.floor((ms % 1000) / 100)}` : "";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${tenths}`;
}

function lanesOf(picture) {
  const { from, step, points, begin, width, zoom } = picture.dataset;
  const fromMs = Number(from), stepMs = Number(step), steps = Number(points);
  const at = Array.from({ length: steps }, (_, number) => (fromMs + number * stepMs) / 1000);
  const scale = { min: (fromMs + begin * stepMs) / 1000, max: (fromMs + (Number(begin) + Number(width)) * stepMs) / 1000 };
  const axis = picture.querySelector(".axis .now") ?? picture.parentElement.querySelector(".axis .now");

  // Drag: the same page, or the timeline, of the time that was chosen; "back" leads back.
  const go = (chart) => {
    const { left, width: wide } = chart.select;
    if (wide < 4 || !zoom) return;
    const moment = (pixels) => new Date(chart.posToVal(pixels, "x") * 1000).toISOString();
    const address = new URL(zoom, location.href);
    address.searchParams.delete("since");
    address.searchParams.set("from", moment(left));
    address.searchParams.set("to", moment(left + wide));
    location.assign(address);
  };

  function laid(svg) {
    const strip = svg.closest(".strip");
    const paths = [...svg.querySelectorAll("path.line, path.area")].filter((one, _, all) =>
      one.classList.contains("line") || !all.some((other) => other.classList.contains("line")));
    if (!paths.length) return;
    const most = Number(strip.dataset.top), unit = strip.dataset.unit;
    const lines = paths.map((one) => edges(one.getAttribute("d"), steps).map((part) => (part === null ? null : part * most)));
    const readouts = lines.length > 1 ? [...strip.querySelectorAll(".key .read")] : [strip.querySelector(".number")];
    const before = readouts.map((one) => one?.textContent);
    const isDrawnIn = paths.map((one) => one.classList.contains("without")); // not measured, but calculated for a part
    const holder = document.createElement("div");
    holder.className = "over";
    strip.append(holder);
    const box = svg.getBoundingClientRect();
    const chart = new uPlot({
      width: Math.max(10, Math.round(box.width)), height: Math.max(10, Math.round(box.height)),
      padding: [0, 0, 0, 0], legend: { show: false }, axes: [{ show: false }, { show: false }],
      scales: { x: { time: true, range: () => [scale.min, scale.max] }, y: { range: [0, most || 1] } },
      series: [{}, ...lines.map(() => ({ paths: () => null, points: { show: false } }))],
      cursor: {
        y: false, points: { show: false }, sync: { key: "lanes", setSeries: false },
        drag: { x: true, y: false, setScale: false },
        dataIdx: (self, _, nearest, value) => {
          const number = Math.floor((value * 1000 - fromMs) / stepMs);
          return number >= 0 && number < steps ? number : nearest;
        },
      },
      hooks: {
        setSelect: [go],
        setCursor: [(self) => {
          const number = self.cursor.left < 0 ? null : self.cursor.idx;
          lines.forEach((line, which) => {
            const value = number === null ? undefined : line[number];
            const words = value === undefined || (value === null && isDrawnIn[which]) ? before[which] : value === null ? "not measured" : amount(value, unit);
            if (readouts[which]) readouts[which].textContent = words;
          });
          if (axis) axis.textContent = number === null ? "" : clock(fromMs + number * stepMs);
        }],
      },
    }, [at, ...lines], holder);
    new ResizeObserver(() => {
      const now = svg.getBoundingClientRect();
      if (now.width && Math.round(now.width) !== chart.width) {
        chart.setSize({ width: Math.round(now.width), height: Math.round(now.height) });
      }
    }).observe(svg);
  }

  // Only what is seen: a picture may have hundreds of lanes.
  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      laid(target);
    }
  }, { rootMargin: "200px" });
  for (const svg of picture.querySelectorAll(".strip[data-top] > svg")) watcher.observe(svg);
}

function allLanes() {
  for (const picture of document.querySelectorAll(".picture[data-step]")) lanesOf(picture);
}
allLanes();
document.addEventListener("layerline:shown", allLanes);
})();
