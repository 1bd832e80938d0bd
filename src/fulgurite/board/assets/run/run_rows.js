// Rows of metrics.jsonl as curves: series by name, each a list of [step, value]; null is a value that is no number.

const OTHER = new Set(["step", "epoch", "tokens"]);

// Appends new rows to the curves of the server. The arrays are new, so that a chart sees the change.
export function addRows(curves, rows) {
  const series = {...curves.series};
  const longer = new Set();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (OTHER.has(name) || (typeof value !== "number" && value !== null)) continue;
      if (!longer.has(name)) series[name] = [...(series[name] ?? [])];
      longer.add(name);
      series[name].push([row.step, value]);
    }
  }
  return {...curves, series, rows: curves.rows + rows.length, last: {...curves.last, ...Object.assign({}, ...rows)}};
}

export function readLast(points) {
  return points?.length ? points[points.length - 1][1] : null;
}
