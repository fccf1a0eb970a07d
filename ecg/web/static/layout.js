/** Which lead is drawn in which row and column of the paper. */

export const STANDARD = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
export const LAYOUTS = [
  ["3x4", "3×4"],
  ["6x2", "6×2"],
  ["12x1", "12×1"],
];

/** Return the traces in the standard order of leads; others follow in the recording's order. */
export function orderLeads(names) {
  const rank = (name) => (STANDARD.includes(name) ? STANDARD.indexOf(name) : STANDARD.length);
  return names.map((_, index) => index).sort((a, b) => rank(names[a]) - rank(names[b]) || a - b);
}

function countColumns(layout, count) {
  if (layout === "3x4") return count >= 9 ? 4 : count >= 5 ? 2 : 1;
  if (layout === "6x2") return count >= 5 ? 2 : 1;
  return 1;
}

/**
 * Return the rows of the paper, each a list of indices of leads by column.
 *
 * Columns follow each other in time. In 3x4 a rhythm strip over the whole width ends the page.
 */
export function arrangeLeads(layout, names) {
  const order = orderLeads(names);
  const columns = countColumns(layout, names.length);
  const height = Math.ceil(names.length / columns);
  const rows = [];
  for (let row = 0; row < height; row++) {
    const leads = [];
    for (let column = 0; column < columns; column++) leads.push(order[column * height + row] ?? null);
    rows.push({ leads });
  }
  if (layout === "3x4" && columns > 1) {
    const rhythm = names.indexOf("II");
    rows.push({ leads: [rhythm >= 0 ? rhythm : order[0]] });
  }
  return rows;
}
