"use strict";
// Shows what each stretch of the charts holds. The charts themselves need no script.
(() => {
  const data = JSON.parse(document.getElementById("bins").textContent);
  const tip = document.getElementById("tip");
  const panels = [...document.querySelectorAll(".panel svg")].filter((svg) => svg.querySelector(".cross"));
  const crosses = panels.map((svg) => svg.querySelector(".cross"));
  const hide = () => {
    tip.style.visibility = "hidden";
    for (const cross of crosses) cross.style.visibility = "hidden";
  };
  const row = (name, value) => {
    const span = document.createElement("span");
    const text = document.createElement("em");
    text.textContent = name;
    span.append(text, value);
    return span;
  };
  const show = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * data.width;
    const n = data.bins.length;
    const i = Math.floor(((x - data.left) / (data.right - data.left)) * n);
    if (i < 0 || i >= n) return hide();
    const at = data.left + ((i + 0.5) / n) * (data.right - data.left);
    for (const cross of crosses) {
      cross.setAttribute("transform", `translate(${at} 0)`);
      cross.style.visibility = "visible";
    }
    const head = document.createElement("b");
    head.textContent = data.times[i];
    const values = data.bins[i];
    tip.replaceChildren(head);
    if (values === 0) tip.append("no response");
    else data.names.forEach((name, k) => tip.append(row(name, values[k])));
    const left = event.clientX + 16;
    tip.style.left = `${left + tip.offsetWidth > innerWidth ? event.clientX - 16 - tip.offsetWidth : left}px`;
    tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)}px`;
    tip.style.visibility = "visible";
  };
  for (const svg of panels) {
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  }
})();
