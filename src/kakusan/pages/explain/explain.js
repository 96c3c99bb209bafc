"use strict";
(() => {
  const told = JSON.parse(document.getElementById("told").textContent);
  const slider = document.getElementById("t"), play = document.getElementById("play");
  const places = new Map(told.names.map((name, place) => [name, place]));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const texts = all("[data-n]").filter((node) => places.has(node.dataset.n));
  const pictures = all("[data-p]").filter((node) => node.dataset.p in told.pictures[0]);
  const wholes = all("[data-whole]").map((line) => [line, texts.filter((node) => line.contains(node))]);
  const marks = all("[data-marks]"), stills = all("[data-stop]");

  const show = (stop) => {
    for (const node of texts) node.textContent = told.texts[stop][places.get(node.dataset.n)];
    for (const [line, nodes] of wholes) {
      line.hidden = nodes.some((node) => node.textContent === "—" || node.textContent.includes("∞"));
    }
    for (const node of pictures) {
      const picture = told.pictures[stop][node.dataset.p];
      if (node.localName === "img") node.src = picture;
      else if (node.dataset.part) node.setAttribute("d", picture.split("|")[node.dataset.part]);
      else node.setAttribute("transform", picture);
    }
    for (const group of marks) {
      [...group.children].forEach((mark, place) => mark.classList.toggle("now", place === stop));
    }
    for (const still of stills) {
      if (Number(still.dataset.stop) === stop) still.setAttribute("aria-current", "true");
      else still.removeAttribute("aria-current");
    }
    slider.setAttribute("aria-valuetext", "t = " + told.t[stop]);
  };

  let film = 0;
  const stop = () => { clearInterval(film); film = 0; play.setAttribute("aria-pressed", "false"); };
  const start = () => {
    if (slider.valueAsNumber === 0) slider.value = slider.max;
    play.setAttribute("aria-pressed", "true");
    film = setInterval(() => {
      slider.value = slider.valueAsNumber - 1;
      show(slider.valueAsNumber);
      if (slider.valueAsNumber === 0) stop();
    }, 130);
  };
  slider.addEventListener("input", () => { stop(); show(slider.valueAsNumber); });
  play.addEventListener("click", () => (film ? stop() : start()));
  for (const still of stills) {
    still.addEventListener("click", () => { stop(); slider.value = still.dataset.stop; show(slider.valueAsNumber); });
  }
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || document.activeElement !== document.body || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    stop();
    slider.value = slider.valueAsNumber + step;
    show(slider.valueAsNumber);
  });
  document.documentElement.classList.add("live");
  show(slider.valueAsNumber);
})();
