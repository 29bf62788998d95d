"use strict";
// One clip at a time: fetch it, loop it, take three answers, send them. The page never learns which clips are real.

const element = (id) => document.getElementById(id);
const token = decodeURIComponent(location.hash.slice(1));
const questions = ["answer", "confidence", "quality"];
const fieldsets = { answer: element("kind"), confidence: element("confidence"), quality: element("quality") };
const form = element("clip");
const video = element("video");
let reader = "";
let clip = null;
let watchedSince = null;
let busy = false;

for (const name of ["confidence", "quality"]) {
  for (let grade = 1; grade <= 5; grade += 1) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value: String(grade) });
    const face = document.createElement("span");
    face.textContent = grade;
    label.append(input, face);
    fieldsets[name].append(label);
  }
}

function say(sentence) {
  element("message").textContent = sentence;
  element("message").hidden = !sentence;
}

async function call(path, body) {
  const options = { headers: { "X-Token": token } };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The page cannot be reached any more; ask whoever runs this test, then try again.");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error || "Something went wrong; reload the page and give the same name to go on.");
  }
  return response;
}

// Runs one thing at a time and tells what went wrong.
async function attempt(work) {
  if (busy) return;
  busy = true;
  mark();
  try {
    say("");
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    busy = false;
    mark();
  }
}

function chosen(name) {
  const input = form.querySelector(`input[name="${name}"]:checked`);
  return input ? input.value : null;
}

function current() {
  return questions.find((name) => chosen(name) === null) ?? null;
}

function mark() {
  for (const name of questions) fieldsets[name].classList.toggle("current", name === current());
  element("next").disabled = busy || watchedSince === null || current() !== null;
}

function choose(name, value) {
  const input = form.querySelector(`input[name="${name}"][value="${value}"]`);
  if (input) input.checked = true;
  mark();
}

async function show(state) {
  reader = state.reader;
  element("welcome").hidden = true;
  if (!state.clip) return thank(state);
  form.reset();
  document.activeElement.blur();
  watchedSince = null;
  clip = state.clip;
  element("count").textContent = `Clip ${state.done + 1} of ${state.total}`;
  element("progress").max = state.total;
  element("progress").value = state.done;
  form.hidden = false;
  const picture = await (await call(`api/clips/${clip}`)).blob();
  if (video.src) URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(picture);
  await replay();
}

async function replay() {
  video.currentTime = 0;
  try {
    await video.play();
  } catch (error) {
    if (error.name === "NotSupportedError") throw new Error("This browser cannot play H.264 video; use another one.");
    if (error.name === "NotAllowedError") say("The browser holds the clip back; press replay.");
  }
}

function thank(state) {
  form.hidden = true;
  video.pause();
  const right = state.result ? ` You were right about ${state.result.right} of ${state.result.of} clips.` : "";
  element("thanks-text").textContent = `All ${state.total} answers are stored; you can close this page.${right}`;
  element("thanks").hidden = false;
  element("thanks").focus();
}

element("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => show(await (await call("api/next", { reader: element("reader").value })).json()));
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (element("next").disabled) return;
  const judgement = {
    clip,
    answer: chosen("answer"),
    confidence: Number(chosen("confidence")),
    quality: Number(chosen("quality")),
    seconds: Math.min(86400, (performance.now() - watchedSince) / 1000),
  };
  attempt(async () => show(await (await call("api/answers", judgement)).json()));
});

form.addEventListener("change", mark);
element("replay").addEventListener("click", replay);
video.addEventListener("playing", () => {
  watchedSince ??= performance.now();
  mark();
});

document.addEventListener("keydown", (event) => {
  if (form.hidden || busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "r" || key === "g") choose("answer", key === "r" ? "real" : "generated");
  else if (/^[1-5]$/.test(key)) choose(current() === "confidence" || current() === "answer" ? "confidence" : "quality", key);
  else if (key === "backspace") {
    const last = questions.findLast((name) => chosen(name) !== null);
    if (last) form.querySelector(`input[name="${last}"]:checked`).checked = false;
    mark();
  } else if (key === " ") replay();
  else if (key === "enter") form.requestSubmit();
  else return;
  event.preventDefault();
});
