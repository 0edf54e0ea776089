"use strict";
const held = JSON.parse(document.getElementById("samples").textContent);
const at = (id) => document.getElementById(id);
const metrics = {
  time: ["in the order of time", (s) => s.number],
  l2_cm: ["L2, worst first", (s) => -s.l2_cm],
  l2_3s_cm: ["error after 3 s, worst first", (s) => -(s.l2_3s_cm ?? -1)], // no recorded future: last
  collision: ["collisions first", (s) => -s.collision],
  intersection: ["off the road first", (s) => -s.intersection],
  parsed: ["unparsed answers first", (s) => Number(s.parsed)],
  speed_mps: ["fastest first", (s) => -s.speed_mps],
};
let order = [];
let place = 0;

function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}

function fact(label, value) {
  const pair = document.createElement("div");
  for (const [tag, text] of [["dt", label], ["dd", value]]) {
    const part = document.createElement(tag);
    part.textContent = text;
    pair.append(part);
  }
  at("facts").append(pair);
}

function show() {
  const sample = order[place];
  at("count").textContent = `${place + 1} of ${order.length}`;
  at("front").src = sample.image;
  at("front").alt = `front camera of ${sample.scene}, key frame ${sample.token}: dropped tokens are dark`;
  at("road").src = sample.road;
  at("road").alt = "from above: recorded path in black, plan in orange";
  at("facts").replaceChildren();
  fact("scene", sample.scene);
  fact("key frame", sample.token);
  if (sample.event) fact("event", sample.event);
  fact("speed", `${sample.speed_mps.toFixed(1)} m/s`);
  fact("L2, mean of 1, 2, 3 s", `${sample.l2_cm.toFixed(1)} cm`);
  fact("error after 3 s", sample.l2_3s_cm === null ? "–" : `${sample.l2_3s_cm.toFixed(1)} cm`);
  fact("collision by 3 s", sample.collision ? String(sample.collision) : "no");
  fact("off the road by 3 s", sample.intersection ? String(sample.intersection) : "no");
  fact("tokens kept", `${sample.tokens_kept} of ${sample.tokens_total}`);
  fact("parsed", sample.parsed ? "yes" : "no");
  at("answer").textContent = sample.answer;
  const next = order[(place + 1) % order.length];
  new Image().src = next.image;
}

function arrange() {
  const scene = at("scene").value;
  const key = metrics[at("sort").value][1];
  const kept = held.samples.filter((s) => scene === "" || s.scene === scene);
  order = kept.sort((a, b) => key(a) - key(b) || a.number - b.number);
  place = 0;
  show();
}

function move(step) {
  place = (place + step + order.length) % order.length;
  show();
}

for (const [value, [text]] of Object.entries(metrics)) option(at("sort"), value, text);
option(at("scene"), "", "all scenes");
for (const name of [...new Set(held.samples.map((s) => s.scene))]) option(at("scene"), name, name);
at("sort").addEventListener("change", arrange);
at("scene").addEventListener("change", arrange);
at("next").addEventListener("click", () => move(1));
at("previous").addEventListener("click", () => move(-1));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight" || event.key === "j") move(1);
  if (event.key === "ArrowLeft" || event.key === "k") move(-1);
});
arrange();
