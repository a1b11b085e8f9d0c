"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const make = (tag, text, name) => {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
};
const report = data.report, from = Date.parse(report.from) || 0;
const at = text => Date.parse(text) - from; // milliseconds since the first event
const number = n => n.toLocaleString("en");
const lasted = ms => ms < 1 ? `${Math.round(ms * 1000)} µs` : ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` :
  ms < 120e3 ? `${(ms / 1000).toFixed(ms < 10e3 ? 2 : 1)} s` : ms < 7200e3 ? `${(ms / 60e3).toFixed(1)} min` :
  `${(ms / 3600e3).toFixed(1)} h`;

// What tells most comes first, what is the same on every line last.
const first = ["stage", "state", "reason", "status", "code", "message", "detail", "verdict", "error", "fault", "instance"];
const last = ["at", "t", "requestId", "durationMs", "accessKeyId", "caller", "sourceIp", "userAgent"];
const rank = k => first.includes(k) ? first.indexOf(k) : last.includes(k) ? 1000 + last.indexOf(k) : 100;
const telling = attributes => Object.entries(attributes).sort((a, b) => rank(a[0]) - rank(b[0]));

// The events, with what a filter looks at.
const events = data.events.map(([seq, ms, kind, subject, attributes, trace, span, parent], index) => {
  const rest = telling(attributes || {}).map(([k, v]) => `${k}=${v}`).join("  ");
  return { index, seq, ms, kind: data.kinds[kind], subject, attributes: attributes || {}, trace, span, parent, rest };
});
const troubles = new Set((report.troubles || []).map(ev => ev.seq));
const bad = ev => troubles.has(ev.seq);
const hay = ev => ev.hay ??= `${ev.seq} ${ev.kind} ${ev.subject} ${ev.rest} ${ev.trace || ""}`.toLowerCase();
const chainOf = ev => ev.trace || ev.attributes.requestId || "";
const chains = new Map();
for (const ev of events) {
  for (const key of new Set([ev.trace, ev.attributes.requestId])) {
    if (!key) continue;
    if (!chains.has(key)) chains.set(key, []);
    chains.get(key).push(ev);
  }
}

// The guests; those that failed come first.
const failedStage = name => /(failed|refused|crashed)$/.test(name);
const guests = (report.guests || []).map(g => ({
  ...g, failed: g.state === "failed" || g.stages.some(s => failedStage(s.name)),
  steps: g.stages.map(s => ({ ...s, ms: at(s.at) })),
})).sort((a, b) => b.failed - a.failed);
const byID = new Map(guests.map(g => [g.id, g]));
const ended = g => ["terminated", "failed"].includes(g.state);
const whole = [0, Math.max(1, Date.parse(report.to) - from || 1)];
for (const g of guests) for (const s of g.steps) {
  whole[0] = Math.min(whole[0], s.ms); whole[1] = Math.max(whole[1], s.ms);
}
const colours = ["#8ecae6", "#95d5b2", "#ffd166", "#cdb4db", "#f4a261", "#a3c4f3", "#b5e48c", "#f1c0e8", "#90dbf4", "#d4a373"];
const colourOf = (known => name => {
  if (!known.has(name)) known.set(name, colours[known.size % colours.length]);
  return known.get(name);
})(new Map());

// What is shown.
const view = { span: [...whole], guest: "", chain: "", event: null, tab: "guest", file: "", found: [], who: "" };

function about() {
  const p = report.manifest.program;
  $("state").textContent = report.manifest.state;
  document.title = `cloudtwin ${report.manifest.state}`;
  const facts = [[number(report.events), "events"], [lasted(whole[1] - whole[0]), ""], [number(guests.length), "guests"],
    [report.from.replace("T", " ").slice(0, 19), "UTC"], ["cloudtwin", p.version],
    [p.platform, `${p.cores} cores`]];
  for (const [name, value] of Object.entries(report.manifest.selected || {})) facts.push([`only --${name}`, value]);
  if (data.seed) facts.push(["faults' seed", data.seed]);
  for (const [strong, rest] of facts) {
    const span = make("span");
    span.append(make("b", strong), " " + rest);
    $("about").append(span);
  }
  if (data.notes.length) { $("note").hidden = false; $("note").textContent = data.notes.join(" "); }
}

function failures() {
  const list = report.troubles || [];
  if (!list.length) { $("failures").append(make("span", "Nothing tells of trouble.", "ok")); return; }
  const total = list.length + (report.moreTroubles || 0);
  $("failures").append(make("span", `${number(total)} ${total === 1 ? "event tells" : "events tell"} of trouble:`, "quiet"));
  // Steps of guests and decisions about keys tell more than a refused request.
  const weight = ev => ev.kind === "api.request" ? 1 : 0;
  for (const t of [...list].sort((a, b) => weight(a) - weight(b) || a.seq - b.seq).slice(0, 24)) {
    const a = t.attributes || {}, card = make("button");
    const head = make("div");
    head.append(make("b", a.reason || a.code || a.error || a.stage || a.status || a.verdict || t.kind), ` ${t.kind}`);
    card.append(head, make("div", `${t.subject} ${a.detail || a.message || a.action || ""}`));
    card.title = `event ${t.seq}, ${lasted(Date.parse(t.time) - from)} after the first`;
    card.onclick = () => { clear(); choose(events.find(ev => ev.seq === t.seq)); };
    $("failures").append(card);
  }
}

const left = ms => 100 * (ms - view.span[0]) / (view.span[1] - view.span[0]);
function place(e, begin, end) {
  if (end < view.span[0] || begin > view.span[1]) return false;
  const l = Math.max(0, left(begin));
  e.style.left = l + "%";
  e.style.width = Math.max(0, Math.min(100, left(end)) - l) + "%";
  return true;
}

function density() {
  const box = $("density"), counts = data.density, n = counts.length, most = Math.max(1, ...counts.map(c => c[0]));
  const parts = [];
  counts.forEach(([all, wrong], i) => {
    const begin = data.total * i / n, end = data.total * (i + 1) / n;
    for (const [count, name] of [[all, ""], [wrong, "bad"]]) {
      const e = make("i", undefined, name);
      e.style.height = count ? Math.max(2, 24 * Math.log1p(count) / Math.log1p(most)) + "px" : 0;
      if (count && place(e, begin, end)) parts.push(e);
    }
  });
  const wide = view.span[1] - view.span[0];
  const every = [...Array(7).keys()].flatMap(e => [1, 2, 5].map(k => k * 10 ** (e - 3)))
    .concat([15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3, 4 * 3600e3, 24 * 3600e3, 240 * 3600e3])
    .sort((a, b) => a - b).find(s => wide / s <= 9) || wide;
  for (let ms = Math.ceil(view.span[0] / every) * every; ms < view.span[1]; ms += every) {
    if (left(ms) > 95) break;
    const e = make("span", clock(ms, every));
    e.style.left = left(ms) + "%";
    parts.push(e);
  }
  box.replaceChildren(...parts);
}

// clock writes a place on the axis, as exactly as its steps are.
function clock(ms, every) {
  if (every < 1000) return `${ms.toFixed(every < 1 ? 2 : 0)} ms`;
  const s = Math.round(ms / 1000), two = n => String(n).padStart(2, "0");
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)} min` :
    `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)} h`;
}

function drag() {
  const box = $("density");
  let begun = null, mark = null;
  const where = e => {
    const r = box.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (e.clientX - r.left) / r.width));
    return view.span[0] + part * (view.span[1] - view.span[0]);
  };
  box.onpointerdown = e => { begun = where(e); mark = make("em"); box.append(mark); box.setPointerCapture(e.pointerId); };
  box.onpointermove = e => {
    if (begun !== null) place(mark, Math.min(begun, where(e)), Math.max(begun, where(e)));
  };
  box.onpointerup = e => {
    if (begun === null) return;
    const [a, b] = [begun, where(e)].sort((x, y) => x - y);
    begun = null;
    mark.remove();
    if (left(b) - left(a) > 0.5) zoom([a, b]);
  };
  box.ondblclick = () => zoom(whole);
}

function zoom(span) {
  view.span = [...span];
  const all = view.span[0] <= whole[0] && view.span[1] >= whole[1];
  $("span").hidden = all;
  $("span").textContent = `${lasted(span[0])} to ${lasted(span[1])} ✕`;
  density();
  lanes();
  filter();
}

// called says what a guest is to people: the load balancer whose VM it is, its name, or else its image.
function called(g) {
  const facts = (data.topology || {})[g.id] || {};
  return (facts.name || "").replace(/^loadbalancer-vm-\d+-/, "") || g.image;
}

const mostLanes = 200;
function lanes() {
  const wanted = guests.filter(g => !view.who || `${g.id} ${called(g)} ${g.image} ${g.node} ${g.state}`.toLowerCase().includes(view.who));
  $("guests").replaceChildren(...wanted.slice(0, mostLanes).map(lane));
  $("fewer").textContent = wanted.length > mostLanes ?
    `${number(wanted.length - mostLanes)} more guests; find one by its id, name, image, node or state` : "";
}

function lane(g) {
  const row = make("div", undefined, "lane guest" + (g.failed ? " failed" : "") + (g.id === view.guest ? " chosen" : ""));
  row.dataset.id = g.id;
  const name = make("div", undefined, "name"), bar = make("div", undefined, "bar");
  name.append(make("span", g.id, "id"), make("span", " " + [called(g), g.state].filter(Boolean).join(" · "), "quiet"));
  name.title = [g.id, called(g), g.image, g.how, g.node, g.state].filter(Boolean).join(" · ");
  g.steps.forEach((s, i) => {
    const last = i + 1 === g.steps.length, end = last ? (ended(g) ? s.ms : whole[1]) : g.steps[i + 1].ms;
    const part = make("div", s.name, "stage" + (failedStage(s.name) ? " bad" : "") + (last ? " lasts" : ""));
    if (!place(part, s.ms, end)) return;
    part.style.background = colourOf(s.name);
    part.title = `${s.name}: ${last ? "the last" : lasted(end - s.ms) + " to " + g.steps[i + 1].name}`;
    bar.append(part);
  });
  for (const ev of report.troubles || []) {
    const ms = Date.parse(ev.time) - from, tick = make("div", undefined, "tick bad");
    if (ev.subject !== g.id && (ev.attributes || {}).instance !== g.id || !place(tick, ms, ms)) continue;
    tick.style.width = "";
    tick.title = `${ev.kind} ${(ev.attributes || {}).reason || ""}`;
    bar.append(tick);
  }
  row.append(name, bar);
  row.onclick = () => pick(view.guest === g.id ? "" : g.id);
  return row;
}

function pick(id) {
  view.guest = id;
  $("guest").value = id;
  for (const row of document.querySelectorAll(".lane.guest")) row.classList.toggle("chosen", row.dataset.id === id);
  if (id && view.tab !== "console") view.tab = "guest";
  filter();
}

function filter() {
  const text = $("text").value.toLowerCase().split(/\s+/).filter(Boolean), kind = $("kind").value;
  const family = kind.endsWith(".*") ? kind.slice(0, -1) : "", only = $("trouble").checked;
  const [begin, end] = view.span, all = $("span").hidden;
  view.found = events.filter(ev => (!kind || (family ? ev.kind.startsWith(family) : ev.kind === kind)) &&
    (!only || bad(ev)) && (all || ev.ms >= begin && ev.ms <= end) &&
    (!view.chain || ev.trace === view.chain || ev.attributes.requestId === view.chain) &&
    (!view.guest || ev.subject === view.guest || hay(ev).includes(view.guest)) && text.every(t => hay(ev).includes(t)));
  $("count").textContent = `${number(view.found.length)} of ${number(events.length)}`;
  $("chain").hidden = !view.chain;
  $("chain").textContent = `trace ${view.chain.slice(0, 8)}… ✕`;
  $("space").style.height = view.found.length * high + "px";
  if (view.event && view.found.includes(view.event)) reveal(); else $("events").scrollTop = 0;
  rows();
  detail();
}

// Only the rows that can be seen are there.
const high = 22;
function rows() {
  const box = $("events"), first = Math.max(0, Math.floor(box.scrollTop / high) - 5);
  const last = Math.min(view.found.length, first + Math.ceil(box.clientHeight / high) + 10);
  const kin = view.event && chainOf(view.event);
  $("rows").style.top = first * high + "px";
  $("rows").replaceChildren(...view.found.slice(first, last).map(ev => {
    const row = make("div", undefined, "row" + (bad(ev) ? " bad" : "") + (ev === view.event ? " chosen" : "") +
      (kin && chainOf(ev) === kin ? " kin" : ""));
    row.dataset.seq = ev.seq;
    for (const cell of [ev.seq, (ev.ms / 1000).toFixed(3), ev.kind, ev.subject, ev.rest]) row.append(make("span", cell));
    row.onclick = () => choose(ev);
    return row;
  }));
}

function reveal() {
  const i = view.found.indexOf(view.event), box = $("events");
  if (i < 0) return;
  if (i * high < box.scrollTop) box.scrollTop = i * high;
  if ((i + 1) * high > box.scrollTop + box.clientHeight) box.scrollTop = (i + 1) * high - box.clientHeight;
}

function choose(ev) {
  if (!ev) return;
  view.event = ev;
  view.tab = "event";
  reveal();
  rows();
  detail();
}

function detail() {
  for (const tab of ["guest", "console", "event", "files"]) $("tab-" + tab).ariaSelected = String(view.tab === tab);
  const box = $("detail");
  box.className = view.tab;
  box.replaceChildren(...{ guest: guestDetail, console: consoleDetail, event: eventDetail, files: filesDetail }[view.tab]());
}

const quiet = text => [make("p", text, "quiet")];
function table(pairs) {
  const t = make("table"), body = make("tbody");
  for (const [k, v] of pairs) {
    const tr = make("tr");
    tr.append(make("td", k), make("td", v));
    body.append(tr);
  }
  t.append(body);
  return t;
}

const guestOf = ev => ev && (byID.has(ev.subject) ? ev.subject : ev.attributes.instance);
const current = () => byID.get(view.guest || guestOf(view.event));

function guestDetail() {
  const g = current();
  if (!g) return quiet("Click a guest above to see its life, stage by stage.");
  const facts = [["image", g.image], ["started", g.how], ["node", g.node], ["state", g.state], ["because", g.reason],
    ...Object.entries((data.topology || {})[g.id] || {})].filter(([, v]) => v);
  const steps = make("div", undefined, "steps"), gaps = g.steps.slice(1).map((s, i) => s.ms - g.steps[i].ms);
  const longest = Math.max(1e-6, ...gaps);
  g.steps.forEach((s, i) => {
    const long = make("div", undefined, "long");
    long.style.background = failedStage(s.name) ? "var(--bad)" : colourOf(s.name);
    long.style.width = i ? 100 * Math.max(0, gaps[i - 1]) / longest + "%" : 0;
    steps.append(make("span", s.name), make("span", i ? "+" + lasted(Math.max(0, gaps[i - 1])) : ""), long);
  });
  const near = make("button", $("span").hidden ? "look at this time" : "look at all of the time");
  near.onclick = () => zoomGuest();
  const out = [make("h2", g.id), table(facts), make("h2", "Stages "), steps];
  out[2].append(near);
  for (const [name, url] of Object.entries((data.screens || {})[g.id] || {})) {
    const img = make("img");
    img.src = url;
    img.alt = `screen of ${g.id}`;
    out.push(make("h2", name), img);
  }
  return out;
}

const wrong = /panic|oops|BUG:|Out of memory|oom-kill|hung task|segfault|"stage":"[a-z-]*(failed|refused)"|\b(error|fail(ed|ure)?)\b/i;
function logLines(text) {
  const pre = make("pre");
  for (const line of text.split("\n")) {
    const e = make("span", line + "\n", wrong.test(line) ? "bad" : line.startsWith("@cloudtwin") ? "step" : "");
    pre.append(e);
  }
  return pre;
}

function consoleDetail() {
  const g = current();
  if (!g) return quiet("Click a guest above to see its console.");
  const c = data.consoles[g.id];
  if (!c) return quiet(`The bundle has no console of ${g.id}.`);
  return [...(c.left ? quiet(`The first ${number(c.left)} bytes are only in the bundle.`) : []), logLines(c.text)];
}

function eventDetail() {
  const ev = view.event;
  if (!ev) return quiet("Click an event to see all of it, and what belongs to it.");
  const out = [make("h2", `${ev.kind} ${ev.subject}`), table([["event", ev.seq],
    ["time", new Date(from + ev.ms).toISOString()], ["since the first", lasted(ev.ms)],
    ...["trace", "span", "parent"].filter(k => ev[k]).map(k => [k, ev[k]]), ...telling(ev.attributes)])];
  const kin = chains.get(chainOf(ev)) || [];
  if (kin.length > 1) out.push(make("h2", `${ev.trace ? "Trace" : "Request"}: ${kin.length} events`), chainList(kin));
  return out;
}

// A trace's steps are indented by what caused them.
function chainList(kin) {
  const box = make("div", undefined, "chain"), up = new Map();
  for (const ev of kin) if (ev.span && ev.parent) up.set(ev.span, ev.parent);
  const depth = span => { let d = 0; for (; up.has(span) && d < 12; d++) span = up.get(span); return d; };
  for (const ev of kin.slice(0, 500)) {
    const b = make("button", undefined, ev === view.event ? "chosen" : "");
    const kind = make("span", ev.kind, bad(ev) ? "bad" : "");
    kind.style.paddingLeft = 10 * depth(ev.span) + "px";
    b.append(make("span", "+" + lasted(ev.ms - kin[0].ms), "quiet"), kind, make("span", `${ev.subject} ${ev.rest}`, "quiet"));
    b.onclick = () => choose(ev);
    box.append(b);
  }
  if (kin.length > 500) box.append(make("p", `${number(kin.length - 500)} more; press t to have them in the list`, "quiet"));
  return box;
}

function filesDetail() {
  const list = make("div", undefined, "files");
  for (const f of report.manifest.files || []) {
    const line = make("div"), shown = f.name in data.files;
    const name = make(shown ? "button" : "span", f.name);
    if (shown) name.onclick = () => { view.file = view.file === f.name ? "" : f.name; detail(); };
    line.append(name, make("span", `  ${number(f.size)} bytes`, "quiet"));
    list.append(line);
    if (shown && view.file === f.name) list.append(logLines(data.files[f.name]));
  }
  return [make("h2", "In the bundle"), list];
}

function clear() {
  $("text").value = $("kind").value = "";
  $("trouble").checked = false;
  view.chain = "";
  pick("");
  zoom(whole);
}

function step(by, test) {
  const list = view.found;
  let i = view.event ? list.indexOf(view.event) : by > 0 ? -1 : list.length;
  for (i += by; i >= 0 && i < list.length; i += by) if (test(list[i])) return choose(list[i]);
}

function stepGuest(by) {
  const list = [...document.querySelectorAll(".lane.guest")].map(row => row.dataset.id);
  const i = list.indexOf(view.guest);
  if (list.length) pick(list[(i + by + list.length + (i < 0 && by < 0 ? 1 : 0)) % list.length]);
  document.querySelector(".lane.chosen")?.scrollIntoView({ block: "nearest" });
}

function zoomGuest() {
  const g = current();
  if (!g || !$("span").hidden) return zoom(whole);
  const steps = g.steps.map(s => s.ms), begin = Math.min(...steps), end = Math.max(...steps);
  const margin = Math.max(1, (end - begin) / 20);
  zoom([begin - margin, end + margin]);
}

const keys = {
  "/": () => $("text").focus(), j: () => step(1, () => true), ArrowDown: () => step(1, () => true),
  k: () => step(-1, () => true), ArrowUp: () => step(-1, () => true), n: () => step(1, bad), N: () => step(-1, bad),
  g: () => stepGuest(1), G: () => stepGuest(-1), z: zoomGuest, Escape: clear, "?": () => $("keys").showModal(),
  t: () => { view.chain = view.chain || !view.event ? "" : chainOf(view.event); filter(); },
};
["guest", "console", "event", "files"].forEach((tab, i) => {
  keys[i + 1] = $("tab-" + tab).onclick = () => { view.tab = tab; detail(); };
});
document.onkeydown = e => {
  if (e.ctrlKey || e.metaKey || e.altKey || $("keys").open) return;
  const typing = e.target.matches("input[type=search], select");
  if (typing && e.key === "Escape") { e.target.blur(); return; }
  if (typing || !keys[e.key]) return;
  if ((e.key === "ArrowDown" || e.key === "ArrowUp") && $("detail").contains(e.target)) return;
  e.preventDefault();
  keys[e.key]();
};

function start() {
  about();
  failures();
  const kinds = Object.keys(report.kinds).sort(), families = new Map();
  for (const k of kinds) families.set(k.split(".")[0], (families.get(k.split(".")[0]) || 0) + 1);
  for (const k of kinds) {
    const family = k.split(".")[0];
    if (families.get(family) > 1) { $("kind").append(new Option(`${family}.*`, family + ".*")); families.delete(family); }
    $("kind").append(new Option(`${k} (${number(report.kinds[k])})`, k));
  }
  for (const g of guests) $("guest").append(new Option([g.id, called(g)].join(" "), g.id));
  let wait = 0;
  $("text").oninput = () => { clearTimeout(wait); wait = setTimeout(filter, 80); };
  $("kind").oninput = $("trouble").oninput = filter;
  $("guest").oninput = () => pick($("guest").value);
  $("who").oninput = () => { view.who = $("who").value.toLowerCase(); lanes(); };
  $("span").onclick = () => zoom(whole);
  $("chain").onclick = () => { view.chain = ""; filter(); };
  $("help").onclick = () => $("keys").showModal();
  $("events").onscroll = rows;
  window.onresize = rows;
  drag();
  zoom(whole);
  const failed = guests.find(g => g.failed);
  if (failed) pick(failed.id);
}
start();
