"use strict";
(() => {
  const told = JSON.parse(document.getElementById("told").textContent);
  const slider = document.getElementById("t"), play = document.getElementById("play");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const texts = all("[data-n]"), pictures = all("[data-p]");
  const walks = all("[data-walk]").map((picture, place) => ({
    ...told.walks[place], cloud: picture.querySelector(".points"),
    traced: picture.querySelector(".heads"), drawn: all(".lines path", picture),
  }));

  const show = (stop) => {
    for (const node of texts) node.textContent = told.stops[node.dataset.n][stop];
    for (const node of pictures) node.setAttribute("d", told.stops[node.dataset.p][stop]);
    for (const walk of walks) {
      const place = walk.at[stop];
      walk.cloud.setAttribute("d", walk.clouds[place]);
      walk.traced.setAttribute("d", walk.heads[place]);
      walk.drawn.forEach((line, k) => line.setAttribute("d", "M" + walk.lines[k].slice(0, place + 1).join("L")));
    }
    slider.setAttribute("aria-valuetext", "t = " + told.stops.t[stop]);
  };

  let film = 0;
  const halt = () => { clearInterval(film); film = 0; play.setAttribute("aria-pressed", "false"); };
  const start = () => {
    if (slider.valueAsNumber === 0) slider.value = slider.max;
    play.setAttribute("aria-pressed", "true");
    film = setInterval(() => {
      slider.value = slider.valueAsNumber - 1;
      show(slider.valueAsNumber);
      if (slider.valueAsNumber === 0) halt();
    }, 130);
  };
  slider.addEventListener("input", () => { halt(); show(slider.valueAsNumber); });
  play.addEventListener("click", () => (film ? halt() : start()));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || document.activeElement !== document.body || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    halt();
    slider.value = slider.valueAsNumber + step;
    show(slider.valueAsNumber);
  });
  document.documentElement.classList.add("live");
  show(slider.valueAsNumber);
})();
