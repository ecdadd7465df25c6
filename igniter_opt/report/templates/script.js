// Adds to a page that is complete without it: details while pointing or walking with the keys, and sorting.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const tip = document.getElementById("tip");
  const segments = [...document.querySelectorAll(".s")];
  let current = -1;

  const details = (segment) => {
    // The native tooltip would appear besides ours.
    const title = segment.querySelector("title");
    if (title) {
      segment.dataset.details = title.textContent;
      title.remove();
    }
    return segment.dataset.details;
  };
  const show = (segment, x, y) => {
    tip.textContent = details(segment);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 12, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
  };
  const hide = () => { tip.hidden = true; };

  const picture = document.querySelector(".gpus");
  if (picture && segments.length) {
    picture.tabIndex = 0;
    picture.setAttribute("role", "group");
    picture.setAttribute("aria-label", "GPUs; arrow keys walk through the placements");
    picture.addEventListener("pointermove", (event) => {
      const segment = event.target.closest(".s");
      if (segment) show(segment, event.clientX, event.clientY); else hide();
    });
    picture.addEventListener("pointerleave", hide);
    const walk = (to) => {
      if (current >= 0) segments[current].classList.remove("on");
      current = Math.max(0, Math.min(segments.length - 1, to));
      const segment = segments[current];
      segment.classList.add("on");
      segment.scrollIntoView({ block: "nearest" });
      const box = segment.getBoundingClientRect();
      show(segment, box.left, box.bottom - 12);
    };
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) walk(current < 0 ? 0 : current + step);
      else if (event.key === "Home") walk(0);
      else if (event.key === "End") walk(segments.length - 1);
      else if (event.key === "Escape") hide();
      else return;
      event.preventDefault();
    });
    picture.addEventListener("blur", () => {
      if (current >= 0) segments[current].classList.remove("on");
      hide();
    });
  }

  const value = (cell) => {
    const text = cell.textContent.trim();
    const number = Number(text.replace(/,/g, "").replace("−", "-"));
    return text === "" || Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    const [numberA, numberB] = [typeof a === "number", typeof b === "number"];
    if (numberA && numberB) return a - b;
    if (numberA !== numberB) return numberA ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table[data-sort]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if ("fixed" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
        rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
        body.append(...rows.map((entry) => entry[1]));
      });
    });
  }

  for (const hint of document.querySelectorAll(".hint")) {
    const region = hint.nextElementSibling;
    const look = () => hint.classList.toggle("fits", region.scrollWidth <= region.clientWidth + 1);
    look();
    addEventListener("resize", look);
    addEventListener("toggle", look, true);
  }
})();
