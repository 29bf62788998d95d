// Drawing on canvases: the picture with its outline, and curves that scroll past a cursor.

export const colours = {
  trace: "#62e894", r: "#f0b24a", cursor: "#f5f5f5", grid: "#182024", second: "#2c373c", text: "#aebbc2",
  outline: "#ffc861", volume: "#78beff", synthetic: "#ffc861",
};
// Where the cursor stands, as a share of the width; and how bright what lies ahead is.
export const CURSOR_SHARE = 0.72;
const AHEAD = 0.4;

// The canvas in device pixels, cleared, with its sizes in CSS pixels.
export function prepared(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.round(canvas.clientWidth), height = Math.round(canvas.clientHeight);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

const buffer = document.createElement("canvas");

// frame: {pixels, height, width, outline}; the outline is drawn where there is one and it is wanted.
export function drawEcho(canvas, frame, withOutline) {
  const { pen, width, height } = prepared(canvas);
  if (!width) return;
  if (buffer.width !== frame.width || buffer.height !== frame.height) {
    buffer.width = frame.width;
    buffer.height = frame.height;
  }
  const small = buffer.getContext("2d", { willReadFrequently: true });
  const image = small.createImageData(frame.width, frame.height);
  const words = new Uint32Array(image.data.buffer);
  for (let at = 0; at < words.length; at += 1) words[at] = 0xff000000 | (frame.pixels[at] * 0x010101);
  small.putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(buffer, 0, 0, width, height);
  if (withOutline && frame.outline && Number.isFinite(frame.outline[0])) {
    pen.strokeStyle = colours.outline;
    pen.lineWidth = 1.6;
    pen.globalAlpha = 0.9;
    pen.beginPath();
    for (let at = 0; at < frame.outline.length; at += 2) {
      pen.lineTo((frame.outline[at] + 0.5) * width / frame.width, (frame.outline[at + 1] + 0.5) * height / frame.height);
    }
    pen.closePath();
    pen.stroke();
    pen.globalAlpha = 1;
  }
  // Part of the picture, so that no copy of the canvas is without it.
  pen.fillStyle = colours.synthetic;
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "top";
  pen.fillText("SYNTHETIC", 8, 8);
}

// How many seconds a strip of this width shows.
export const spanOf = (width) => Math.min(6, Math.max(3, width / 150));

// pieces: [{start_s, rate_hz, values}], drawn as one line as far as they join.
function drawPieces(pen, pieces, column, row, from, to) {
  let last = null;
  pen.beginPath();
  for (const piece of pieces) {
    const first = Math.max(0, Math.floor((from - piece.start_s) * piece.rate_hz));
    const end = Math.min(piece.values.length, Math.ceil((to - piece.start_s) * piece.rate_hz) + 1);
    for (let at = first; at < end; at += 1) {
      const time = piece.start_s + at / piece.rate_hz, value = piece.values[at];
      if (last !== null && time - last < 3 / piece.rate_hz) pen.lineTo(column(time), row(value));
      else pen.moveTo(column(time), row(value));
      last = time;
    }
  }
  pen.stroke();
}

function range(pieces, from, to, least) {
  const seen = [];
  for (const { start_s: start, rate_hz: rate, values } of pieces) {
    const end = Math.min(values.length, Math.ceil((to - start) * rate));
    for (let at = Math.max(0, Math.floor((from - start) * rate)); at < end; at += 2) seen.push(values[at]);
  }
  seen.sort((a, b) => a - b);
  const low = seen.length ? seen[0] : 0, high = seen.length ? seen[seen.length - 1] : 1;
  const swing = Math.max(high - low, least);
  return { low: low - 0.08 * swing, high: low + 1.1 * swing };
}

// One curve with a cursor at `now`. pieces: what is known; marks: times with a mark above. Returns the cursor's column, CSS pixels.
export function drawStrip(canvas, { pieces, marks = [], now, colour, least, label, held, fromZero = false }) {
  const { pen, width, height } = prepared(canvas);
  if (!width) return 0;
  const span = spanOf(width), perSecond = width / span;
  const from = now - CURSOR_SHARE * span, to = from + span;
  const column = (time) => (time - from) * perSecond;
  for (let tick = Math.ceil(from / 0.2); tick * 0.2 < to; tick += 1) {
    pen.fillStyle = tick % 5 ? colours.grid : colours.second;
    pen.fillRect(Math.round(column(tick * 0.2)), 0, 1, height);
  }
  // The scale follows the curve at once where it grows and slowly where it shrinks.
  const seen = range(pieces, from, to, least);
  const scale = held ?? {};
  scale.low = scale.low === undefined ? seen.low : Math.min(seen.low, scale.low + 0.01 * (seen.low - scale.low));
  scale.high = scale.high === undefined ? seen.high : Math.max(seen.high, scale.high + 0.01 * (seen.high - scale.high));
  if (fromZero) scale.low = -0.02 * scale.high;
  const top = marks.length || label ? 18 : 6;
  const row = (value) => height - 6 - (value - scale.low) / (scale.high - scale.low) * (height - 6 - top);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.7;
  pen.lineJoin = "round";
  drawPieces(pen, pieces, column, row, from, now);
  pen.globalAlpha = AHEAD;
  drawPieces(pen, pieces, column, row, now, to);
  pen.globalAlpha = 1;
  pen.fillStyle = colours.r;
  for (const time of marks) {
    if (time < from || time > to) continue;
    const x = column(time);
    pen.globalAlpha = time > now ? AHEAD : 1;
    pen.beginPath();
    pen.moveTo(x - 4, 8);
    pen.lineTo(x + 4, 8);
    pen.lineTo(x, 14);
    pen.fill();
  }
  pen.globalAlpha = 1;
  if (label) {
    pen.fillStyle = colours.text;
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    pen.fillText(label, 8, 4);
  }
  const cursor = Math.round(column(now));
  pen.fillStyle = colours.cursor;
  pen.fillRect(cursor, 0, 1.5, height);
  return cursor;
}

// A whole recording, of which the first seconds are shown.
export function drawPreview(canvas, values, rate, seconds) {
  const { pen, width, height } = prepared(canvas);
  const piece = { start_s: 0, rate_hz: rate, values };
  const shown = Math.min(seconds, values.length / rate);
  const seen = range([piece], 0, shown, 0.3);
  pen.strokeStyle = colours.trace;
  pen.lineWidth = 1.4;
  const row = (value) => height - 5 - (value - seen.low) / (seen.high - seen.low) * (height - 10);
  drawPieces(pen, [piece], (time) => time / shown * width, row, 0, shown);
}
