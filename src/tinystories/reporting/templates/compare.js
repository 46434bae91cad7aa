(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent), [low, high] = data.losses;
  const curves = document.getElementById("curves"), tip = document.getElementById("tip");
  const losses = document.getElementById("losses");
  const lines = [...losses.querySelectorAll("g.run")].reverse(); // the best is drawn last, on top
  const rows = [...document.querySelectorAll(".ranking tbody tr")];
  const dot = losses.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "circle"));
  const across = tokens => tokens / data.end;
  const down = loss => 1 - Math.log(Math.max(loss, 1e-6) / low) / Math.log(high / low);
  const count = value => value.toLocaleString("en-US");
  // Every place that can be pointed at: a run's number, what it is, tokens and loss.
  const places = data.runs.flatMap((run, number) => ["train", "valid"].flatMap(
    kind => run[kind].map(([tokens, loss]) => ({number, kind, tokens, loss}))));
  let at = null;

  const mark = number => {
    losses.classList.toggle("some-on", number !== null);
    for (const nodes of [lines, rows]) nodes.forEach((node, other) => node.classList.toggle("on", other === number));
  };
  const show = place => {
    at = place;
    mark(place.number);
    dot.setAttribute("r", 4);
    dot.setAttribute("cx", 100 * across(place.tokens) + "%");
    dot.setAttribute("cy", 100 * down(place.loss) + "%");
    const found = [
      ["run", data.runs[place.number].name], ["tokens", count(place.tokens)],
      [place.kind === "train" ? "training" : "validation", place.loss.toFixed(4) + " · PPL " + Math.exp(place.loss).toPrecision(4)],
    ];
    showTip(found, places.indexOf(place), place.tokens > data.end / 2);
  };
  const hide = () => {
    tip.hidden = true;
    dot.setAttribute("r", 0);
    mark(null);
  };
  const nearest = event => {
    const box = losses.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    const far = place => Math.hypot((across(place.tokens) - x) * box.width, (down(place.loss) - y) * box.height);
    return places.reduce((best, place) => far(place) < far(best) ? place : best);
  };
  const step = change => {
    const same = places.filter(place => place.number === at.number);
    return same[Math.max(0, Math.min(same.length - 1, same.indexOf(at) + change))];
  };
  const jump = change => {
    const number = (at.number + change + data.runs.length) % data.runs.length;
    return places.findLast(place => place.number === number) || at;
  };
  const keys = {ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => jump(-1), ArrowDown: () => jump(1)};

  for (const kind of ["pointermove", "pointerdown"]) curves.addEventListener(kind, event => show(nearest(event)));
  curves.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") hide(); });
  curves.addEventListener("focus", () => { if (tip.hidden) show(at || places.findLast(place => !place.number) || places[0]); });
  curves.addEventListener("blur", hide);
  curves.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    else if (at && keys[event.key]) {
      show(keys[event.key]());
      event.preventDefault();
    }
  });
  rows.forEach((row, number) => {
    row.addEventListener("pointerenter", () => mark(number));
    row.addEventListener("pointerleave", () => mark(null));
  });
  makeSlider("The curves, point by point", places.length - 1, 0);
})();
