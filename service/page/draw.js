// Drawing: bars, badges, camera pictures, gaze, latency. Everything is drawn from one decoded answer.

import { CAMERAS, groupNames } from "./message.js";

const VALIDITY = ["not seen", "live", "held", "fading"];
const STAGES_SHOWN = ["wait", "decode", "warp", "inference", "head", "filter"];
const GAZE_LIMIT_DEG = 30;
const TRAIL = 24;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const label = (stem) => (stem === "jaw" || stem === "mouth" ? `${stem} sideways` : stem);

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A canvas context scaled so that one unit is one CSS pixel, cleared; [context, width, height]. */
function canvasContext(canvas) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

/** Bars of all expression units; made once the service has told their names. */
export class Bars {
  #bars = [];

  constructor(names) {
    const groups = groupNames(names);
    for (const [id, pairs] of [["eyes", groups.eyes], ["mouth", groups.mouth]]) {
      const rows = document.querySelector(`#${id} .rows`);
      rows.replaceChildren(...pairs.map(({ name, left, right }) => {
        const row = element("div", "row");
        const middle = element("span", "name", label(name));
        middle.title = `${names[right]}, ${names[left]}`;
        row.append(...this.#bar(names[right], right, "right"), middle, ...this.#bar(names[left], left, "left").reverse());
        return row;
      }));
    }
    document.querySelector("#whole .rows").replaceChildren(...groups.whole.map(({ name, index }) => {
      const row = element("div", "row");
      row.append(element("span", "name", name), ...this.#bar(name, index, "whole").reverse());
      return row;
    }));
  }

  #bar(name, index, side) {
    const number = element("span", "number", "–");
    const track = element("div", `track ${side}`);
    const fill = element("div", "fill");
    track.append(fill);
    track.setAttribute("role", "meter");
    track.setAttribute("aria-label", name);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "1");
    track.dataset.unit = name;
    const from = side === "right" ? 1 : -1;
    this.#bars.push({ index, track, fill, number, from, camera: index < 12 ? 0 : index < 24 ? 1 : 2, shown: "", validity: -1 });
    return [number, track];
  }

  draw(answer) {
    for (const bar of this.#bars) {
      const value = Math.min(1, Math.max(0, answer.values[bar.index]));
      // A full bar slid into its track keeps its round end, which a scaled one does not; 101: no sliver at 0.
      bar.fill.style.transform = `translateX(${(bar.from * (1 - value) * 101).toFixed(1)}%)`;
      const validity = answer.validity[bar.camera];
      if (validity !== bar.validity) bar.track.dataset.validity = bar.validity = validity;
      const shown = validity === 0 ? "–" : value.toFixed(2);
      if (shown !== bar.shown) {
        bar.number.textContent = bar.shown = shown;
        bar.number.classList.toggle("low", value < 0.05);
        bar.track.setAttribute("aria-valuenow", value.toFixed(2));
        bar.track.setAttribute("aria-valuetext", validity === 0 ? "not seen" : shown);
      }
    }
  }
}

/** The answer with its pictures decoded, off the main thread: pictures and values of a frame set are drawn together. */
export async function withPictures(answer) {
  const decoded = answer.pictures.map(async ({ camera, jpeg }) => {
    try {
      return { camera, bitmap: await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })) };
    } catch (error) {
      if (error.name !== "InvalidStateError" && error.name !== "EncodingError") throw error;
      return { camera, bitmap: null };
    }
  });
  return { ...answer, pictures: await Promise.all(decoded) };
}

/** Gives back the memory of an answer's pictures. */
export function release(answer) {
  for (const { bitmap } of answer?.pictures ?? []) bitmap?.close();
}

/** Camera pictures with their badges. */
export class Cameras {
  draw(answer) {
    CAMERAS.forEach((camera, region) => {
      const validity = answer.validity[region];
      const confidence = answer.confidence[region];
      const badge = document.querySelector(`.badge[data-region="${camera}"]`);
      document.getElementById(`camera-${camera}`).dataset.validity = validity;
      badge.textContent = validity === 0 ? VALIDITY[0] : `${VALIDITY[validity]} · ${Math.round(100 * confidence)} %`;
      badge.title = "where the values come from, and the head's confidence in the picture";
      badge.dataset.level = validity === 1 ? (confidence >= 0.5 ? "good" : "warn") : validity === 0 ? "" : validity === 2 ? "warn" : "bad";
    });
    for (const { camera, bitmap } of answer.pictures) {
      if (bitmap === null) {
        document.querySelector(`.badge[data-region="${camera}"]`).textContent = "picture cannot be decoded";
        continue;
      }
      const canvas = document.querySelector(`#camera-${camera} canvas`);
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
    }
  }
}

/** Where each eye looks, as seen from the front: the wearer's left is to the right of the screen. */
export class Gaze {
  #trails = { left: [], right: [] };

  draw(answer) {
    this.#plot("left", answer.gaze[0], answer.gaze[1], answer.validity[0]);
    this.#plot("right", answer.gaze[2], answer.gaze[3], answer.validity[1]);
  }

  #plot(eye, yaw, pitch, validity) {
    const figure = document.getElementById(`gaze-${eye}`);
    const [context, width, height] = canvasContext(figure.querySelector("canvas"));
    const middle = width / 2;
    const radius = Math.max(0, Math.min(width, height) / 2 - 3); // 0 while nothing is shown yet
    const place = (x, y) => [middle + (x / GAZE_LIMIT_DEG) * radius, height / 2 - (y / GAZE_LIMIT_DEG) * radius];
    context.strokeStyle = "#2a3541";
    context.lineWidth = 1;
    for (const share of [1, 2 / 3, 1 / 3]) {
      context.beginPath();
      context.arc(middle, height / 2, radius * share, 0, 2 * Math.PI);
      context.stroke();
    }
    context.beginPath();
    context.moveTo(middle - radius, height / 2);
    context.lineTo(middle + radius, height / 2);
    context.moveTo(middle, height / 2 - radius);
    context.lineTo(middle, height / 2 + radius);
    context.stroke();
    const angles = figure.querySelector(".angles");
    if (validity === 0) {
      angles.textContent = "–";
      this.#trails[eye].length = 0;
      return;
    }
    const reach = Math.max(1, Math.hypot(yaw, pitch) / GAZE_LIMIT_DEG); // beyond the rim it sits on the rim
    const trail = this.#trails[eye];
    trail.push([yaw / reach, pitch / reach]);
    trail.splice(0, trail.length - (still.matches ? 1 : TRAIL));
    trail.forEach(([x, y], step) => {
      const newest = step === trail.length - 1;
      context.globalAlpha = (newest ? 1 : (0.35 * step) / trail.length) * (validity === 1 ? 1 : 0.5);
      context.fillStyle = colour(eye);
      context.beginPath();
      context.arc(...place(x, y), newest ? 5 : 2.5, 0, 2 * Math.PI);
      context.fill();
    });
    context.globalAlpha = 1;
    const signed = (value) => `${value < -0.5 ? "−" : ""}${Math.abs(value).toFixed(0)}°`;
    angles.textContent = `${signed(yaw)}  ${signed(pitch)}`;
    angles.title = "yaw towards the wearer's left, pitch up";
  }
}

/** The latency of the last ten seconds, and the stages of the newest frame set. */
export class Timing {
  #points = [];
  #window = 10_000;
  #shownAt = 0;
  #stages = STAGES_SHOWN.map((name) => {
    const part = element("span", "");
    const item = element("li", "", `${name} `);
    const time = element("b", "");
    part.dataset.stage = item.dataset.stage = name;
    item.append(time);
    document.getElementById("stack").append(part);
    document.getElementById("stages").append(item);
    return { part, time };
  });

  reset() {
    this.#points.length = 0;
  }

  draw(answer, now) {
    this.#points.push([now, answer.stages[6] / 1000]);
    while (now - this.#points[0][0] > this.#window) this.#points.shift();
    this.#sparkline(now);
    if (now - this.#shownAt < 250) return; // numbers that change 30 times a second cannot be read
    this.#shownAt = now;
    this.#stages.forEach(({ part, time }, stage) => {
      part.style.flexGrow = answer.stages[stage];
      time.textContent = `${answer.stages[stage]} µs`;
    });
    const lag = document.getElementById("lag");
    lag.textContent = Math.max(...answer.lag).toFixed(1);
    lag.title = ["gaze", "lids", "brows", "mouth"].map((group, index) => `${group} ${answer.lag[index].toFixed(1)} ms`).join(", ");
    document.getElementById("drops").textContent = answer.drops;
  }

  #sparkline(now) {
    const [context, width, height] = canvasContext(document.getElementById("sparkline"));
    const highest = Math.max(...this.#points.map(([, latency]) => latency));
    const ceiling = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((step) => step >= highest * 1.05) ?? highest;
    const place = ([at, latency]) => [width - ((now - at) / this.#window) * width, height - 4 - (latency / ceiling) * (height - 20)];
    context.font = "11px system-ui, sans-serif";
    context.strokeStyle = "#222c36";
    context.fillStyle = colour("quiet");
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(height - 4 - share * (height - 20)) + 0.5;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
      if (share) context.fillText(`${ceiling * share} ms`, 0, y - 4);
    }
    context.strokeStyle = colour("good");
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    this.#points.forEach((point) => context.lineTo(...place(point)));
    context.stroke();
    context.lineTo(place(this.#points.at(-1))[0], height - 4);
    context.lineTo(place(this.#points[0])[0], height - 4);
    context.globalAlpha = 0.1;
    context.fillStyle = colour("good");
    context.fill();
    context.globalAlpha = 1;
  }
}
