// Calls of the HTTP API, and the WebSocket on which a heart beats.

const token = decodeURIComponent(location.hash.slice(1));

async function answered(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...(options.headers ?? {}), ...(token ? { "X-Token": token } : {}) } });
  } catch {
    throw new Error("The service cannot be reached; see whether it still runs, then try again.");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error ?? "Something went wrong in the service; try again.");
  }
  return response;
}

export const status = async () => (await answered("api/status")).json();

// files: of one upload. options: query parameters, of which empty ones are left out.
export async function upload(kind, files, options = {}) {
  const query = new URLSearchParams();
  for (const file of files) query.append("name", file.name);
  if (files.length > 1) for (const file of files) query.append("size", String(file.size));
  for (const [name, value] of Object.entries(options)) if (value) query.append(name, value);
  const body = new Blob(files, { type: "application/octet-stream" });
  return (await answered(`api/${kind}?${query}`, { method: "POST", body })).json();
}

export async function generate(asked) {
  const response = await answered("api/generate", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked),
  });
  const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  return { name: named ? named[1] : "echogen-synthetic", data: await response.blob() };
}

export function floats(base64) {
  const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

export function base64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

// A part of a heart, as the server packs it: length of the header, header, frames, outline, ECG.
export function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const part = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const size = part.height * part.width;
  part.pixels = new Uint8Array(buffer, at, part.frames * size);
  at += part.frames * size;
  const points = part.frames * part.outline_points * 2;
  part.outline = new Float32Array(buffer.slice(at, at + 4 * points));
  at += 4 * points;
  if (part.ecg) part.ecg.values = new Float32Array(buffer.slice(at, at + 4 * part.ecg.samples));
  return part;
}

// One connection to /api/beat. Calls back: part(part), end(until_s), error(sentence), lost().
export class Connection {
  constructor(callbacks) {
    this.callbacks = callbacks;
    this.socket = null;
    this.waiting = [];
  }

  get open() {
    return this.socket !== null && this.socket.readyState <= WebSocket.OPEN;
  }

  send(message) {
    const text = JSON.stringify(message);
    if (!this.open) this.connect();
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(text);
    else this.waiting.push(text);
  }

  connect() {
    const address = new URL("api/beat", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.hash = "";
    const socket = new WebSocket(address, token ? ["echogen", `token.${token}`] : ["echogen"]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.waiting = [];
    let told = false;
    socket.onopen = () => {
      for (const text of this.waiting) socket.send(text);
      this.waiting = [];
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return this.callbacks.part(unpacked(data));
      const message = JSON.parse(data);
      if (message.type === "end") return this.callbacks.end(message);
      told = true;
      return this.callbacks.error(message);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.callbacks.lost(told);
    };
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
  }
}
