// The report of a fit: for each expression unit the error on held-out repetitions, before and after.

const byId = (id) => document.getElementById(id);

function element(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function bar(kind, error, worst) {
  const track = element("div", "error");
  const fill = element("div", kind);
  fill.style.width = `${(100 * error) / worst}%`;
  track.append(fill);
  return track;
}

// an output that was only moved by what the resting face tells was not found better by anything that was held out
const isBetter = ({ source }) => source !== "old" && source !== "rested";
const SAID = { old: "kept", rested: "rested" };

const isGaze = (name) => name.startsWith("gaze"); // in degrees; everything else is a share of the wearer's own range

function row(name, one, worst) {
  const { before, after, source } = one;
  const made = element("div", "report-row");
  made.dataset.unit = name;
  made.dataset.better = String(isBetter(one));
  const bars = element("div", "errors");
  bars.append(bar("before", before, worst), bar("after", after, worst));
  const numbers = element("span", "number", isGaze(name) ? `${before.toFixed(1)}° → ${after.toFixed(1)}°` : `${before.toFixed(3)} → ${after.toFixed(3)}`);
  made.append(element("span", "name", name), bars, numbers, element("span", "said", SAID[source] ?? "new"));
  return made;
}

function slipped(slip) {
  const known = Object.values(slip);
  const most = Math.max(...known.map((one) => Math.hypot(one.right_px, one.down_px)));
  if (!known.length) return "";
  const where = known.some(({ followed }) => followed) ? "the crops follow it" : "the crops stay";
  return `The headset has slipped by ${most.toFixed(1)} px at the most, ${where}. `;
}

/** Fills the report from its event. */
export function drawReport({ head_version: version, failure, report }) {
  const units = Object.entries(report.eus ?? {}).filter(([, one]) => one?.before !== null && one?.after !== null);
  const better = units.filter(([, one]) => isBetter(one)).length;
  const others = units.some(([, one]) => one.source === "rested") ? "the others are moved by what your face at rest tells" : "";
  byId("report-title").textContent = version === null ? "Nothing became better" : `Head ${version} answers now`;
  byId("report-title").dataset.better = String(version !== null);
  const recentred = report.origin === "recentred";
  byId("report-kind").textContent = recentred ? "distance from rest" : "error";
  const said = recentred
    ? `In the held-out halves of your rest, ${better} of ${units.length} outputs came nearer to rest; they are moved, ${others || "the others stay"}.`
    : `On repetitions that were held out, ${better} of ${units.length} outputs became better; they take the new head, ${others || "the others keep the old one"}.`;
  const judged = `${slipped(report.slip ?? {})}${units.length ? said : "No output could be judged."}`;
  byId("report-text").textContent = failure === null ? `${judged}${version === null ? " The head in use stays." : ""}` : `${failure} The head in use stays.`;
  const worstOf = (some) => Math.max(1e-6, ...some.flatMap(([, one]) => [one.before, one.after]));
  const worst = [worstOf(units.filter(([name]) => !isGaze(name))), worstOf(units.filter(([name]) => isGaze(name)))];
  const gain = ([name, one]) => (one.before - one.after) / worst[Number(isGaze(name))];
  units.sort((one, other) => gain(other) - gain(one));
  byId("report-rows").replaceChildren(...units.map(([name, one]) => row(name, one, worst[Number(isGaze(name))])));
}
