"use strict";
// The sequence after each layer, and what happened to the token that is pointed at.
(() => {
  const functions = JSON.parse(document.getElementById("fates").textContent);
  const slider = document.getElementById("after");
  const told = document.getElementById("told");
  const detail = document.getElementById("detail");
  const tokens = [...document.querySelectorAll(".t")];
  const depth = Number(slider.max);

  function showAfter(layers) {
    slider.value = layers;
    for (const token of tokens) {
      const { layer, made } = token.dataset;
      token.classList.toggle("gone", layer !== undefined && Number(layer) < layers);
      token.classList.toggle("unborn", made !== undefined && Number(made) >= layers);
    }
    for (const step of document.querySelectorAll(".lengths [data-step]")) {
      step.classList.toggle("now", Number(step.dataset.step) === layers);
    }
    const left = functions.map((one) => one.lengths[layers].toLocaleString("en")).join(" and ");
    const where = layers === 0 ? "input" : `after layer ${layers - 1}`;
    told.textContent = `${where}: ${left} tokens`;
    slider.setAttribute("aria-valuetext", told.textContent);
  }

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  const percent = (share) => `${(100 * share).toPrecision(3)} %`;

  function gauge(score, band) {
    const box = element("span", undefined, "gauge");
    const scale = 100 / (1.15 * Math.max(score, band[1]));
    const kept = element("i");
    kept.style.left = `${Math.max(0, band[0]) * scale}%`;
    kept.style.width = `${(band[1] - Math.max(0, band[0])) * scale}%`;
    const mark = element("b");
    mark.style.left = `${score * scale}%`;
    box.classList.toggle("out", score < band[0] || score > band[1]);
    box.title = `stays between ${percent(Math.max(0, band[0]))} and ${percent(band[1])}`;
    box.append(kept, mark);
    return box;
  }

  function describe(f, position) {
    const one = functions[f];
    const token = one.tokens[position];
    const place = position < 0 ? `mean of ${token.count} tokens, ${token.text}` : `token ${position + 1}`;
    const head = element("p");
    if (position >= 0) head.append(element("code", token.text), " ");
    head.append(element("span", place, "quiet"), ": ");
    let fate = "stayed to the end";
    if (token.layer !== null) fate = `went in layer ${token.layer}${token.cause ? `, ${token.cause}` : ""}`;
    else if (token.protected) fate = "protected: stays whatever its score";
    head.append(element("strong", fate));
    const list = element("ul", undefined, "scores");
    for (const [layer, score] of Object.entries(token.scores)) {
      const row = element("li");
      row.append(element("span", `layer ${layer}`));
      row.append(one.bands[layer] ? gauge(score, one.bands[layer]) : element("span"));
      row.append(element("span", percent(score)));
      list.append(row);
    }
    return [head, list];
  }

  let seen = null;
  function show(token) {
    if (token === seen) return;
    if (seen) seen.classList.remove("seen");
    seen = token;
    seen.classList.add("seen");
    const f = Number(token.closest("[data-f]").dataset.f);
    const parts = token.dataset.i.split(" ").map(Number).flatMap((position) => describe(f, position));
    const about = element("p", "Attention received in each layer that scores tokens; the shaded band stays.", "quiet");
    detail.replaceChildren(...parts, about);
    detail.hidden = false;
  }

  function move(from, by) {
    for (let at = tokens.indexOf(from) + by; at >= 0 && at < tokens.length; at += by) {
      if (tokens[at].offsetParent !== null) {
        from.tabIndex = -1;
        tokens[at].tabIndex = 0;
        tokens[at].focus();
        return;
      }
    }
  }

  for (const token of tokens) token.tabIndex = -1;
  if (tokens.length) tokens[0].tabIndex = 0; // one stop for Tab; arrows go on from there
  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".t");
    if (token) show(token);
  });
  document.addEventListener("focusin", (event) => {
    const token = event.target.closest(".t");
    if (token) show(token);
  });
  document.addEventListener("keydown", (event) => {
    const token = event.target.closest(".t");
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!token || !by) return;
    event.preventDefault();
    move(token, by);
  });
  slider.addEventListener("input", () => showAfter(Number(slider.value)));
  const step = (by) => showAfter(Math.min(depth, Math.max(0, Number(slider.value) + by)));
  document.getElementById("back").addEventListener("click", () => step(-1));
  document.getElementById("on").addEventListener("click", () => step(1));
  document.getElementById("hide").addEventListener("change", (event) => {
    document.body.classList.toggle("hiding", event.target.checked);
  });
  document.getElementById("steps").hidden = false;
  detail.hidden = false;
  showAfter(depth);
})();
