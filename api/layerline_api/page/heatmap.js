// Draw a rectangle in a heatmap: the form below it is filled in and sent. Without it the form is filled in by hand.
"use strict";
{
  const drag = { from: null };
  const place = (svg, pointer) => {
    const box = svg.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    const view = svg.viewBox.baseVal;
    return {
      x: Math.min(view.width - 1, Math.floor(within((pointer.clientX - box.left) / box.width) * view.width)),
      y: Math.min(view.height - 1, Math.floor(within((pointer.clientY - box.top) / box.height) * view.height)),
    };
  };
  const ends = (a, b) => [Math.min(a, b), Math.max(a, b) + 1];
  const draw = (svg, to) => {
    const [left, right] = ends(drag.from.x, to.x);
    const [top, bottom] = ends(drag.from.y, to.y);
    let frame = svg.querySelector(".frame");
    if (!frame) {
      frame = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      frame.setAttribute("class", "frame");
      svg.append(frame);
    }
    for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) {
      frame.setAttribute(name, value);
    }
    const { origin, step, bounds } = svg.dataset;
    const edges = bounds.split(" ");
    const time = (column) => new Date(Number(origin) + column * Number(step)).toISOString();
    const form = document.getElementById("picked");
    form.elements.picked_from.value = time(left);
    form.elements.picked_to.value = time(right);
    form.elements.min_duration.value = `${edges[edges.length - 1 - bottom]}ns`;
    form.elements.max_duration.value = `${edges[edges.length - 1 - top]}ns`;
    return form;
  };
  document.addEventListener("pointerdown", (pointer) => {
    const svg = pointer.target.closest("#heatmap");
    if (!svg || pointer.button !== 0) return;
    pointer.preventDefault();
    svg.setPointerCapture(pointer.pointerId);
    drag.svg = svg;
    drag.from = place(svg, pointer);
    draw(svg, drag.from);
  });
  document.addEventListener("pointermove", (pointer) => drag.from && draw(drag.svg, place(drag.svg, pointer)));
  document.addEventListener("pointerup", (pointer) => {
    if (!drag.from) return;
    const form = draw(drag.svg, place(drag.svg, pointer));
    drag.from = null;
    form.requestSubmit();
  });
}
