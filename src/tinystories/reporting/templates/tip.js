// What the curves of both pages share: the tip, and the slider that the arrow keys move.
"use strict";
const showTip = (lines, number, onLeft) => {
  const curves = document.getElementById("curves"), tip = document.getElementById("tip");
  tip.replaceChildren(...lines.map(([name, value]) => {
    const row = document.createElement("tr");
    for (const [kind, text] of [["th", name], ["td", value]]) {
      row.appendChild(document.createElement(kind)).textContent = text;
    }
    return row;
  }));
  tip.classList.toggle("on-left", onLeft);
  tip.hidden = false;
  curves.setAttribute("aria-valuenow", number);
  curves.setAttribute("aria-valuetext", lines.map(line => line.join(" ")).join(", "));
};
const makeSlider = (label, last, number) => {
  const slider = {
    tabindex: 0, role: "slider", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": last, "aria-valuenow": number,
  };
  for (const key in slider) document.getElementById("curves").setAttribute(key, slider[key]);
  document.querySelector(".hint").hidden = false;
};
