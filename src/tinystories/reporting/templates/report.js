// The cross-hair on the curves, by mouse, touch and arrow keys. Without it the page lacks nothing else.
(() => {
  const curves = document.getElementById("curves"), tip = document.getElementById("tip");
  const losses = document.getElementById("losses"), rates = document.getElementById("rates");
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = data.rows, [low, high] = data.losses;
  const make = (name, parent, attributes) => {
    const node = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    return node;
  };
  const crosses = [losses, rates].map(svg => make("line", svg, {class: "cross", y1: 0, y2: "100%", visibility: "hidden"}));
  const dot = (svg, kind) => make("circle", svg, {class: kind, r: 4, visibility: "hidden"});
  const atTrain = dot(losses, "at-train"), atValid = dot(losses, "at-valid"), atRate = dot(rates, "at-rate");
  const across = tokens => 100 * tokens / data.end + "%";
  const down = loss => 100 * (1 - Math.log(Math.max(loss, 1e-6) / low) / Math.log(high / low)) + "%";
  const count = value => value.toLocaleString("en-US");
  const perplexity = loss => {
    const value = Math.exp(loss);
    if (value >= 1e7) return value.toExponential(2);
    return value.toLocaleString("en-US", {minimumFractionDigits: 2, maximumFractionDigits: 2});
  };
  const both = loss => loss.toFixed(4) + " · PPL " + perplexity(loss);
  const place = (node, tokens, y) => {
    node.setAttribute("cx", across(tokens));
    node.setAttribute("cy", y);
    node.setAttribute("visibility", "visible");
  };
  let at = -1;

  const lines = ([step, tokens, loss, smoothed, slice, rate]) => {
    const found = [["tokens · step", count(tokens) + " · " + count(step)], ["training", both(loss)]];
    if (smoothed !== loss) found.push(["smoothed", both(smoothed)]);
    const epoch = data.epochs.find(epoch => epoch[3] === at);
    const measured = rows.slice(0, at + 1).findLast(row => row[4] !== null);
    if (epoch) found.push(["validation, epoch " + count(epoch[0]), both(epoch[2])]);
    if (measured) found.push(["slice" + (measured[0] === step ? "" : ", step " + count(measured[0])), both(measured[4])]);
    found.push(["learning rate", String(rate)]);
    return [found, epoch, measured];
  };
  const show = number => {
    at = Math.max(0, Math.min(rows.length - 1, number));
    const [, tokens, loss, smoothed, , rate] = rows[at], [found, epoch, measured] = lines(rows[at]);
    for (const cross of crosses) {
      cross.setAttribute("x1", across(tokens));
      cross.setAttribute("x2", across(tokens));
      cross.setAttribute("visibility", "visible");
    }
    place(atTrain, tokens, down(smoothed));
    place(atRate, tokens, 100 * (1 - rate / data.rate) + "%");
    if (epoch) place(atValid, tokens, down(epoch[2]));
    else if (measured) place(atValid, measured[1], down(measured[4]));
    else atValid.setAttribute("visibility", "hidden");
    showTip(found, at, tokens > data.end / 2);
  };
  const hide = () => {
    tip.hidden = true;
    for (const node of [...crosses, atTrain, atValid, atRate]) node.setAttribute("visibility", "hidden");
  };
  const nearest = event => {
    const box = losses.getBoundingClientRect();
    const tokens = (event.clientX - box.left) / box.width * data.end;
    let first = 0, last = rows.length - 1;
    while (first < last) {
      const middle = (first + last) >> 1;
      if (rows[middle][1] < tokens) first = middle + 1;
      else last = middle;
    }
    return first && tokens - rows[first - 1][1] < rows[first][1] - tokens ? first - 1 : first;
  };
  const keys = {
    ArrowRight: () => at + 1, ArrowLeft: () => at - 1, PageUp: () => at + Math.ceil(rows.length / 10),
    PageDown: () => at - Math.ceil(rows.length / 10), Home: () => 0, End: () => rows.length - 1,
  };

  curves.addEventListener("pointermove", event => show(nearest(event)));
  curves.addEventListener("pointerdown", event => show(nearest(event)));
  curves.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") hide(); });
  document.addEventListener("pointerdown", event => { if (!curves.contains(event.target)) hide(); });
  curves.addEventListener("focus", () => { if (tip.hidden) show(at < 0 ? rows.length - 1 : at); });
  curves.addEventListener("blur", hide);
  curves.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    else if (keys[event.key]) {
      show(keys[event.key]());
      event.preventDefault();
    }
  });
  makeSlider("The curves, row by row", rows.length - 1, rows.length - 1);
})();
