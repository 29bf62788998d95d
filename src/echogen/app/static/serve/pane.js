// One heart on the page: what has been made of it, which frame is shown, and its figures.

import { Connection, base64 } from "./service.js";
import { CURSOR_SHARE, colours, drawEcho, drawStrip, spanOf } from "./drawing.js";

// Of an endless heart so much of the past is kept, in s.
const KEPT_S = 10;

export class Pane {
  constructor(root, tell) {
    this.root = root;
    this.tell = tell;
    this.connection = new Connection({
      part: (part) => this.take(part),
      end: (message) => { if (message.question === this.question) this.ended = message.until_s; },
      error: (message) => this.fail(message),
      lost: (told) => this.lose(told),
    });
    this.question = 0;
    this.asked = null;
    this.coming = null;
    this.forget();
    this.shown = null;
    this.frame = null;
    // Differences between the shown frame and the cursor in frames, as drawn.
    this.measured = { drawn: 0, most: 0 };
    this.latency = 1;
    this.told = -Infinity;
    // The first end-diastolic frame of a heart, by which later questions about it keep its anatomy; null: not seen yet.
    this.anchor = null;
  }

  forget() {
    this.frames = [];
    this.ecg = [];
    this.volume = [];
    this.marks = [];
    this.ended = null;
    this.began = null;
    this.lead = "";
    this.scales = { ecg: {}, volume: {} };
    this.now = null;
  }

  // Ask for a heart. keep: go on with what is there until the new one is made.
  ask(heart, keep) {
    this.question += 1;
    this.asked = heart;
    this.askedAt = performance.now();
    this.pending = true;
    this.coming = [];
    this.failed = false;
    if (!keep) this.forget();
    this.ended = null;
    this.told = -Infinity;
    this.set(".asked", heart.ef_percent === null ? "–" : `${Math.round(heart.ef_percent)} %`);
    for (const name of [".ef", ".rate"]) this.set(name, "–");
    this.connection.send({ type: "start", question: this.question, heart });
  }

  // Parts of a new heart wait until they reach the clock, so that nothing is ever shown but the frame of the moment.
  take(part) {
    if (part.question !== this.question) return;
    if (this.pending) this.latency = 0.5 * this.latency + 0.5 * (performance.now() - this.askedAt) / 1000;
    this.pending = false;
    if (this.coming === null) {
      this.join(part);
      return;
    }
    this.coming.push(part);
    if (this.now !== null && part.times_s.at(-1) < this.now) return;
    this.cut(this.coming[0]);
    for (const one of this.coming) this.join(one);
    this.coming = null;
  }

  // Leave out what an earlier heart has from the beginning of this part on.
  cut({ times_s: [begin], ecg }) {
    const before = (pieces, end) => pieces.map((piece) => ({
      ...piece, values: piece.values.slice(0, Math.max(0, Math.round((end - piece.start_s) * piece.rate_hz))),
    }));
    this.began = begin;
    this.frames = this.frames.filter((frame) => frame.time < begin - 1e-6);
    this.marks = this.marks.filter((time) => time < begin);
    this.volume = before(this.volume, begin);
    this.ecg = before(this.ecg, ecg ? ecg.start_s : begin);
  }

  join(part) {
    const { times_s: times, width, height, outline_points: points } = part;
    const size = width * height;
    for (let at = 0; at < times.length; at += 1) {
      this.frames.push({
        time: times[at], width, height, seed: part.seed,
        pixels: part.pixels.subarray(at * size, (at + 1) * size),
        outline: points ? part.outline.subarray(2 * at * points, 2 * (at + 1) * points) : null,
      });
    }
    this.interval = times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) : this.interval ?? 1 / 32;
    if (part.ecg) {
      this.ecg.push(part.ecg);
      this.lead = part.ecg.lead;
    }
    if (this.anchor === null && part.r_s.length && height === 128 && width === 128) {
      this.anchor = base64(this.frameAt(part.r_s[0] + this.interval).pixels);
    }
    if (part.volume) this.volume.push({ start_s: times[0], rate_hz: 1 / this.interval, values: part.volume });
    this.marks.push(...part.r_s);
    const rounded = (value, unit) => (value === null ? "–" : `${Math.round(value)}${unit}`);
    this.set(".ef", rounded(part.ef_percent, " %"));
    this.set(".rate", rounded(part.heart_rate_bpm, " bpm"));
    this.set(".ecg-rate", rounded(part.ecg_rate_bpm, " bpm"));
  }

  fail(message) {
    if (message.question !== undefined && message.question !== this.question) return;
    this.failed = true;
    this.pending = false;
    this.tell(this, message);
  }

  lose(told) {
    this.failed = true;
    this.pending = false;
    if (!told) this.tell(this, { error: "The connection to the service was lost; press Play to go on." });
  }

  set(name, text) {
    this.root.querySelector(name).textContent = text;
  }

  get finite() {
    return this.asked?.ecg.kind === "recorded";
  }

  // The beginning of what can be shown, in s, and its end. A frame is shown from half an interval before its time to half after.
  get from() {
    return this.frames.length ? this.frames[0].time : Infinity;
  }

  get until() {
    return this.frames.length ? this.frames.at(-1).time + this.interval / 2 : -Infinity;
  }

  frameAt(now) {
    let low = 0, high = this.frames.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.frames[middle].time <= now + 1e-6) low = middle;
      else high = middle - 1;
    }
    return this.frames[low];
  }

  // Whether it has nothing to show yet because the clock is ahead of what has come.
  get behind() {
    return !this.frames.length && !this.failed && this.coming !== null && this.coming.length > 0;
  }

  // The frame of a moment, or null where there is none.
  at(now) {
    if (!this.frames.length) return null;
    const frame = this.frameAt(now + this.interval / 2);
    return Math.abs(frame.time - now) <= this.interval / 2 + 1e-6 ? frame : null;
  }

  // The first moment from a time on of which there is a frame, or null where none is made yet.
  next(now) {
    if (this.at(now)) return now;
    return this.frames.find((frame) => frame.time > now)?.time ?? null;
  }

  // Draw what belongs to a time, and note by how many frames picture and cursor differ as they were drawn.
  draw(now, withOutline) {
    this.now = now;
    if (Math.abs(now - this.told) > 0.25) {
      this.told = now;
      if (this.connection.open && !this.failed) this.connection.send({ type: "shown", until_s: now });
    }
    if (!this.finite) this.tidy(now - KEPT_S);
    const frame = this.at(now);
    if (!frame) return;
    this.frame = frame;
    drawEcho(this.root.querySelector(".echo"), this.frame, withOutline);
    const strip = this.root.querySelector(".ecg");
    const cursor = drawStrip(strip, {
      pieces: this.ecg, marks: this.marks, now, colour: colours.trace, least: 0.8, label: this.lead, held: this.scales.ecg,
    });
    drawStrip(this.root.querySelector(".volume"), {
      pieces: this.volume, now, colour: colours.volume, least: 1e-3, label: "LV volume", held: this.scales.volume,
      fromZero: true,
    });
    if (strip.clientWidth) {
      const span = spanOf(Math.round(strip.clientWidth));
      const cursorTime = now + (cursor / Math.round(strip.clientWidth) - CURSOR_SHARE) * span;
      this.measured.drawn += 1;
      this.measured.last = (cursorTime - this.frame.time) / this.interval;
      this.measured.most = Math.max(this.measured.most, Math.abs(this.measured.last));
    }
  }

  tidy(before) {
    while (this.frames.length && this.frames[0].time < before) this.frames.shift();
    while (this.ecg.length > 1 && this.ecg[1].start_s < before) this.ecg.shift();
    while (this.volume.length > 1 && this.volume[1].start_s < before) this.volume.shift();
    while (this.marks.length && this.marks[0] < before) this.marks.shift();
  }

  waiting(is) {
    this.root.querySelector(".waiting").hidden = !is;
  }

  close() {
    this.connection.close();
    this.root.remove();
  }
}
