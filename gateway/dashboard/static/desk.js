// Labels and looking around by keys, and pages that refresh themselves. Every page works without this script.
"use strict";

// What a person has switched off stays so in this browser.
function remember(box, name) {
  box.checked = localStorage.getItem(name) !== "off";
  box.addEventListener("change", () => localStorage.setItem(name, box.checked ? "on" : "off"));
  box.closest("label").hidden = false;
}

const LABELS = { r: "real", a: "artefact", u: "unsure" };
const STEPS = { ArrowLeft: "prev", p: "prev", ArrowRight: "next", n: "next" };

const keys = document.querySelector("#keys input");
if (keys) {
  remember(keys, "astrotriton-keys");
  let gone = false;
  document.addEventListener("keydown", (event) => {
    if (gone || !keys.checked || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    // Arrows scroll what is wider than its frame.
    if (event.key.startsWith("Arrow") && event.target.closest(".scroll")) return;
    const label = LABELS[event.key.toLowerCase()];
    const step = STEPS[event.key];
    const wanted = (label && document.querySelector(`.say button[value="${label}"]`))
      || (step && document.querySelector(`.crumbs a[rel="${step}"]`))
      || document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
    if (!wanted) return;
    event.preventDefault();
    gone = true;
    wanted.click();
  });
  // Back in a page that the browser has kept.
  addEventListener("pageshow", () => { gone = false; });
}

const live = document.getElementById("live");
const refresh = document.querySelector("#refresh input");
if (live && refresh) {
  remember(refresh, "astrotriton-refresh");
  const draw = async () => {
    const every = Number(document.getElementById("live").dataset.every);
    if (!every) return;
    const now = document.getElementById("live");
    if (refresh.checked && !document.hidden && !now.contains(document.activeElement)) {
      try {
        const answer = await fetch(location.href, { redirect: "error" });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const drawn = page.getElementById("live");
        if (answer.ok && drawn) now.replaceWith(drawn);
        // A run that is complete has another page.
        else if (answer.ok) return location.reload();
      } catch {
        // It may answer the next time.
      }
    }
    setTimeout(draw, 1000 * every);
  };
  setTimeout(draw, 1000 * Number(live.dataset.every));
}
