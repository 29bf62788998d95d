// How an uploaded ECG was read: what `echogen ecg` says of it, its picture, and a table of its leads.

const element = (id) => document.getElementById(id);
const amount = (value, digits) => (value === null ? "–" : value.toFixed(digits));

// A row of text cells, the first of them the head of the row.
function row(cells) {
  const made = document.createElement("tr");
  for (const [at, text] of cells.entries()) {
    const cell = document.createElement(at ? "td" : "th");
    if (!at) cell.scope = "row";
    cell.textContent = text;
    made.append(cell);
  }
  return made;
}

export function fillReading({ summary, picture }) {
  element("reading-said").replaceChildren(...summary.said.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  element("reading-picture").src = `data:image/png;base64,${picture}`;
  element("reading-leads").replaceChildren(...summary.leads.map((lead) => row([
    lead.name, amount(lead.swing_mv, 3), amount(lead.qrs_mv, 3), amount(lead.heart_rate_bpm, 1),
    [lead.quality, ...lead.quality_reasons.map((reason) => `(${reason})`)].join(" "),
  ])));
}

export const showReading = () => element("reading").showModal();
