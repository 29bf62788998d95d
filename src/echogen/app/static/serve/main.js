// The page: what is asked, one or two hearts on one clock, and what leaves it.

import { Pane } from "./pane.js";
import { base64, floats, generate, status, upload } from "./service.js";
import { drawPreview } from "./drawing.js";
import { fillReading, showReading } from "./reading.js";

const element = (id) => document.getElementById(id);
const RHYTHMS = { sinus: "Sinus", af: "Atrial fibrillation", pvc: "Premature beats", pause: "Pauses", paced: "Paced" };
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

let service = null;
let recorded = null;
let firstFrame = null;
let playing = !calm;
let now = null;
let lastTick = null;
let retry = null;
let held = 0;
const panes = [];

function say(sentence, note = false) {
  const message = element("message");
  message.textContent = sentence;
  message.hidden = !sentence;
  message.classList.toggle("note", note);
}

const source = () => document.querySelector("input[name=source]:checked").value;

function ecgAsked(index) {
  const kind = source();
  if (kind === "recorded") return recorded?.ecg ?? null;
  if (kind === "live") return element("feed").value ? { kind, feed: element("feed").value } : null;
  const rhythm = (index === 1 && element("rhythm-b").value) || element("rhythm").value;
  return { kind, rhythm, heart_rate_bpm: Number(element("rate").value) };
}

function asked(index) {
  const ecg = ecgAsked(index);
  const takes = (name) => service.takes.includes(name);
  return ecg && {
    ecg,
    ef_percent: takes("ef_percent") ? Number(element(index ? "ef-b" : "ef").value) : null,
    view: takes("view") ? element("view").value : null,
    seed: Math.min(Math.max(0, Math.floor(Number(element("seed").value) || 0)), Number.MAX_SAFE_INTEGER),
    // Another question about the same heart keeps its anatomy.
    first_frame: takes("reference") ? firstFrame ?? panes[0].anchor : null,
  };
}

function addPane() {
  const root = element("pane").content.firstElementChild.cloneNode(true);
  const pane = new Pane(root, (from, { error, retry_after_s: wait }) => {
    say(wait ? `${error} It is tried again by itself.` : error);
    if (wait) {
      clearTimeout(retry);
      retry = setTimeout(() => { if (panes.includes(pane)) ask(true, pane); }, wait * 1000);
    }
    marked();
  });
  element("panes").append(root);
  panes.push(pane);
}

// Another heart: nothing of the one before is kept.
function askAnew(keep = false) {
  for (const pane of panes) pane.anchor = null;
  ask(keep);
}

// Ask for all hearts anew. keep: the clock goes on and the new hearts come in as soon as they are made.
function ask(keep = false, only = null) {
  say("");
  const soft = keep && source() === "simulated" && now !== null && panes.every((pane) => pane.frames.length || pane === only);
  const latest = soft ? now + Math.min(2.5, Math.max(0.25, ...panes.map((pane) => pane.latency))) : 0;
  // Where what there is ends sooner, the new goes on from there.
  const ends = panes.filter((pane) => pane.frames.length && (!only || only === pane)).map((pane) => pane.until);
  // On the frames of the clock, so that hearts beside each other show the same moments.
  const from = soft ? Math.ceil(Math.max(now, Math.min(latest, ...ends)) * service.fps) / service.fps : null;
  for (const [index, pane] of panes.entries()) {
    if (soft && only && only !== pane) continue;
    // The second waits until it can have the anatomy of the first.
    if (index === 1 && service.takes.includes("reference") && !firstFrame && panes[0].anchor === null && !panes[0].failed) {
      pane.due = true;
      pane.question += 1;
      if (!soft) pane.forget();
      continue;
    }
    const heart = asked(index);
    if (heart === null) {
      say(source() === "live" ? "No live ECG is being sent at the moment." : "Choose an ECG file first.", true);
      return;
    }
    pane.ask({ ...heart, start_s: from }, soft);
  }
  if (!soft) now = null;
  marked();
}

function marked() {
  element("play").textContent = playing ? "Pause" : "Play";
  const many = panes.length > 1;
  document.body.classList.toggle("two", many);
  for (const id of ["other", "which-row"]) element(id).hidden = !many;
  for (const kind of ["simulated", "recorded", "live"]) {
    document.querySelector(`[data-source=${kind}]`).hidden = source() !== kind;
  }
  element("ef-value").textContent = `${element("ef").value} %`;
  element("ef-b-value").textContent = `${element("ef-b").value} %`;
  element("rate-value").textContent = `${element("rate").value} bpm`;
}

function toggle() {
  playing = !playing;
  if (playing && panes.some((pane) => pane.failed || !pane.connection.open)) ask(true);
  marked();
}

// The first moment from a time on that all these hearts can show, or null where one must be waited for.
function shownByAll(hearts, time) {
  for (let moment = time; ;) {
    const each = hearts.map((pane) => pane.next(moment));
    if (each.includes(null)) return null;
    const latest = Math.max(moment, ...each);
    if (latest === moment) return moment;
    moment = latest;
  }
}

// The first moment that all hearts show.
const beginning = () => Math.max(...panes.filter((pane) => pane.frames.length).map((pane) => pane.from));

// Let the clock go on, unless a heart has to be waited for. What a new question leaves out between its frames and those before it
// is passed over.
function advance(passed) {
  const next = now + passed;
  // One that has only just been asked for, or begins later, does not stop the other.
  const begun = panes.filter((pane) => pane.from <= next || pane.behind);
  const short = begun.filter((pane) => pane.next(next) === null);
  const moment = shownByAll(begun, next);
  if (moment !== null) now = moment;
  else if (short.some((pane) => pane.ended === null && !pane.failed)) held += passed;
  if (short.length && short.every((pane) => pane.ended !== null)) now = beginning();
  for (const pane of panes) pane.waiting(!pane.at(moment ?? next) && pane.ended === null && !pane.failed);
}

// Time stands still. A heart that is added now is shown from its beginning.
function stay() {
  const begin = beginning();
  if (begin > now && panes.every((pane) => pane.at(begin))) now = begin;
  for (const pane of panes) pane.waiting(!pane.at(now) && pane.ended === null && !pane.failed);
}

// The one clock: every heart shows the frame of the same moment, and time stands still while one has none.
function tick(at) {
  requestAnimationFrame(tick);
  const passed = lastTick === null ? 0 : Math.min(0.1, (at - lastTick) / 1000);
  lastTick = at;
  if (!panes.length) return;
  if (panes[1]?.due && panes[0].anchor !== null) {
    panes[1].due = false;
    if (now === null) panes[1].ask({ ...asked(1), start_s: null }, false);
    else ask(true, panes[1]);
  }
  if (now === null) {
    // One that has failed does not stop the other.
    const hoped = panes.filter((pane) => !pane.failed || pane.frames.length);
    const all = hoped.length > 0 && hoped.every((pane) => pane.frames.length);
    const begin = all ? shownByAll(hoped, beginning()) : null;
    if (begin === null && !(all && hoped.some((pane) => pane.ended !== null || pane.failed))) {
      for (const pane of panes) pane.waiting(!pane.failed && pane.asked !== null);
      return;
    }
    now = begin ?? beginning();
  } else if (playing) advance(passed);
  else stay();
  for (const pane of panes) pane.draw(now, element("outline").checked);
  element("clock").textContent = `${now.toFixed(1)} s`;
  // Told once it has waited for longer than any heart needs to begin.
  if (held > 5 && !element("state").classList.contains("slow")) {
    element("state").classList.add("slow");
    element("state").textContent = "This computer makes frames more slowly than a heart beats, so the heart waits now and then.";
  }
}

async function attempt(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    say("");
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function whenSettled(work) {
  let timer = null;
  return () => {
    marked();
    clearTimeout(timer);
    timer = setTimeout(work, 250);
  };
}

function preview({ ecg, facts }) {
  element("preview").hidden = false;
  const signal = floats(ecg.signal_mv), samples = signal.length / ecg.lead_names.length;
  const lead = Math.max(0, ecg.lead_names.indexOf(facts.lead));
  drawPreview(element("preview-ecg"), signal.subarray(lead * samples, (lead + 1) * samples), ecg.rate_hz, 6);
  const verdict = element("verdict");
  verdict.textContent = `Quality: ${facts.quality}.`;
  verdict.dataset.verdict = facts.quality;
  const leads = `${facts.leads} ${facts.leads === 1 ? "lead" : "leads"}`;
  const rate = facts.heart_rate_bpm === null ? "no heart beats found" : `${Math.round(facts.heart_rate_bpm)} bpm`;
  const taken = facts.duration_s > facts.taken_s + 0.1 ? ` (the first ${Math.round(facts.taken_s)} s are used)` : "";
  element("facts").textContent =
    `${facts.format}, ${leads}, ${facts.duration_s.toFixed(0)} s${taken}, ${rate}. ${facts.quality_reasons.join(" ")}`;
}

async function readEcg() {
  const files = [...element("ecg").files];
  if (!files.length) return;
  const text = element("ecg").nextElementSibling;
  text.textContent = "Reading …";
  try {
    recorded = await upload("ecg", files, { rate_hz: element("ecg-rate").value, unit: element("ecg-unit").value });
    text.textContent = files.map((file) => file.name).join(", ");
    preview(recorded);
    fillReading(recorded);
    askAnew();
  } catch (error) {
    recorded = null;
    element("preview").hidden = true;
    text.textContent = "Choose an ECG file";
    throw error;
  }
}

async function readFrame() {
  const files = [...element("frame").files];
  if (!files.length) return;
  const text = element("frame").nextElementSibling;
  text.textContent = "Reading …";
  try {
    const read = await upload("first-frame", files);
    firstFrame = read.first_frame;
    text.textContent = files[0].name;
    element("frame-note").textContent = read.note ?? "";
    element("frame-note").hidden = !read.note;
    element("frame-remove").hidden = false;
    askAnew();
  } catch (error) {
    removeFrame();
    throw error;
  }
}

function removeFrame() {
  firstFrame = null;
  element("frame").value = "";
  element("frame").nextElementSibling.textContent = "Choose a picture";
  element("frame-remove").hidden = element("frame-note").hidden = true;
}

async function lookForFeeds() {
  const { live } = await status();
  const chosen = element("feed").value;
  element("feed").replaceChildren(...live.map((name) => new Option(name, name)));
  if (live.includes(chosen)) element("feed").value = chosen;
  ask();
}

// A heart that follows a live ECG leaves the page with the ECG that was shown, and its last seconds begin at start_s in it: with a
// first frame at an R peak, though not at one on the ECG's very edge, where it is hardly seen.
function lastOfLive(pane, seconds) {
  const { rate_hz: rate, lead, start_s: first } = pane.ecg[0];
  const values = pane.ecg.flatMap((piece) => [...piece.values]).slice(0, Math.floor((now - first) * rate));
  const from = Math.max(0, values.length / rate - seconds), edge = first + Math.max(from, 0.3);
  const beat = pane.asked.first_frame === null ? null : pane.marks.find((time) => time > edge);
  return {
    ecg: { kind: "recorded", rate_hz: rate, lead_names: [lead], start_s: 0, signal_mv: base64(new Float32Array(values)) },
    start_s: beat ? beat - first : from,
  };
}

async function save(format) {
  const pane = panes[panes.length > 1 ? Number(element("which").value) : 0];
  if (!pane?.asked || pane.began === null) throw new Error("There is nothing to export yet; let a heart beat first.");
  let seconds = Number(element("length").value);
  const wanted = { ...pane.asked, start_s: pane.began, format };
  const live = wanted.ecg.kind === "live";
  if (live) Object.assign(wanted, lastOfLive(pane, seconds));
  if (wanted.ecg.kind === "recorded") {
    const samples = floats(wanted.ecg.signal_mv).length / wanted.ecg.lead_names.length;
    seconds = Math.min(seconds, wanted.ecg.start_s + samples / wanted.ecg.rate_hz - wanted.start_s);
    // An R peak need not lie on a frame.
    if (live) seconds -= 1 / service.fps;
  }
  say(`Making ${seconds.toFixed(0)} s as ${format === "dcm" ? "DICOM" : format.toUpperCase()} …`, true);
  const { name, data } = await generate({ ...wanted, seconds });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(data), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${name} is made; it says that it is synthetic.`, true);
}

function listen() {
  const softly = whenSettled(() => ask(true)), anew = whenSettled(() => askAnew(true));
  element("ef").addEventListener("input", whenSettled(() => ask(true, panes[0])));
  element("ef-b").addEventListener("input", whenSettled(() => ask(true, panes[1])));
  element("rate").addEventListener("input", softly);
  element("rhythm").addEventListener("change", softly);
  element("seed").addEventListener("input", anew);
  element("view").addEventListener("change", anew);
  element("rhythm-b").addEventListener("change", whenSettled(() => ask(true, panes[1])));
  element("feed").addEventListener("change", () => ask());
  element("another").addEventListener("click", () => {
    element("seed").value = Math.floor(Math.random() * 1e6);
    askAnew(true);
  });
  for (const input of document.querySelectorAll("input[name=source]")) {
    input.addEventListener("change", () => {
      marked();
      if (source() === "live") attempt(element("feeds"), lookForFeeds);
      else if (source() === "simulated" || recorded) ask();
    });
  }
  element("ecg").addEventListener("change", () => attempt(element("ecg"), readEcg));
  for (const id of ["ecg-rate", "ecg-unit"]) element(id).addEventListener("change", () => attempt(element("ecg"), readEcg));
  element("reading-open").addEventListener("click", showReading);
  element("feeds").addEventListener("click", () => attempt(element("feeds"), lookForFeeds));
  element("frame").addEventListener("change", () => attempt(element("frame"), readFrame));
  element("frame-remove").addEventListener("click", () => { removeFrame(); askAnew(); });
  element("play").addEventListener("click", toggle);
  element("compare").addEventListener("change", () => {
    if (element("compare").checked) {
      addPane();
      ask(true, panes[1]);
    } else panes.pop().close();
    marked();
  });
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => attempt(element("export"), () => save(button.dataset.format)));
  }
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || element("reading").open || event.target.closest("input, select, button, summary, a")) return;
    event.preventDefault();
    toggle();
  });
}

async function begin() {
  service = await status();
  for (const part of document.querySelectorAll("[data-takes]")) part.hidden = !service.takes.includes(part.dataset.takes);
  for (const name of service.rhythms) {
    element("rhythm").append(new Option(RHYTHMS[name] ?? name, name));
    element("rhythm-b").append(new Option(RHYTHMS[name] ?? name, name));
  }
  const [low, high] = service.ef_range_percent;
  for (const id of ["ef", "ef-b"]) Object.assign(element(id), { min: Math.max(1, Math.ceil(low)), max: Math.min(99, Math.floor(high)) });
  element("state").textContent = service.model;
  addPane();
  listen();
  marked();
  requestAnimationFrame(tick);
  ask();
}

// What tests measure: by how many frames picture and cursor differ as drawn, and what is shown.
window.echogen = {
  measured: () => panes.map((pane) => ({ ...pane.measured, ended: pane.ended, frames: pane.frames.length })),
  shown: () => panes.map((pane) => ({ now, time: pane.frame?.time ?? null, ef: pane.asked?.ef_percent, pending: pane.pending, began: pane.began })),
};

begin().catch((error) => say(error.message));
