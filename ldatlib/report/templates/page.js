"use strict";
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // A table is sorted by the numbers that its cells carry, else by their text; empty ones come last.
  const compare = (a, b, way) => {
    const empty = [a, b].map((cell) => cell.textContent.trim() === "");
    if (empty[0] || empty[1]) return empty[0] - empty[1];
    const numbers = [a, b].map((cell) => Number(cell.dataset.number || NaN));
    if (!numbers.some(Number.isNaN)) return way * (numbers[0] - numbers[1]);
    return way * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };
  for (const table of all(".table table")) {
    const heads = all("thead th", table), body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const names = body.rows[0]?.cells[column]?.tagName === "TH";
        const first = names ? "ascending" : "descending";
        const other = names ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const way = order === "ascending" ? 1 : -1;
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], way)));
      });
    });
  }

  // Claims by verdict, section and word.
  const filters = all(".claims").map((claims) => {
    const [outcome, section, word] = ["outcome", "section", "word"].map((by) =>
      claims.querySelector(`.by-${by}`));
    const rows = all("tbody tr", claims), shown = claims.querySelector(".shown");
    const apply = () => {
      const wanted = word.value.trim().toLowerCase();
      for (const row of rows) {
        row.hidden = !((!outcome.value || row.dataset.outcome === outcome.value) &&
          (!section.value || row.dataset.section === section.value) &&
          row.textContent.toLowerCase().includes(wanted));
      }
      shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
    };
    [outcome, section, word].forEach((by) => by.addEventListener("input", apply));
    apply();
    return { outcome, section, word, apply };
  });
  for (const link of all(".count")) {
    link.addEventListener("click", () => {
      const first = filters[0];
      if (!first) return;
      first.section.value = first.word.value = "";
      first.outcome.value = link.dataset.outcome;
      first.apply();
    });
  }

  // Whatever a link leads to is unfolded; for print everything is.
  const unfold = (name) => {
    const target = name ? document.getElementById(decodeURIComponent(name)) : null;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    return target;
  };
  for (const link of all('a[href^="#"]')) {
    link.addEventListener("click", () => unfold(link.hash.slice(1)));
  }
  addEventListener("hashchange", () => unfold(location.hash.slice(1))?.scrollIntoView());
  unfold(location.hash.slice(1))?.scrollIntoView();
  const every = document.querySelector(".unfold");
  every?.addEventListener("click", () => {
    const sections = all("details.section"), open = sections.some((each) => !each.open);
    sections.forEach((each) => { each.open = open; });
    every.textContent = open ? "fold all" : "unfold all";
  });
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));

  // The contents show where one is; on a narrow screen they fold.
  const contents = document.querySelector(".contents");
  if (contents) {
    const fold = contents.querySelector("details"), narrow = matchMedia("(max-width: 50em)");
    const fit = () => { fold.open = !narrow.matches; };
    narrow.addEventListener("change", fit);
    fit();
    const links = all("a", contents);
    links.forEach((link) => link.addEventListener("click", fit));
    const places = links.map((link) => document.getElementById(link.hash.slice(1)));
    const mark = () => {
      const passed = places.filter((place) => place && place.getBoundingClientRect().top < 120);
      const here = passed.length ? passed[passed.length - 1].id : links[0].hash.slice(1);
      links.forEach((link) => {
        const at = link.hash.slice(1) === here;
        link.classList.toggle("here", at);
        if (at) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      });
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }
})();
