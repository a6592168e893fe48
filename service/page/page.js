// The live page: one WebSocket that is only read, the newest answer kept, drawn once a screen refresh; calibrate.js has the panel.

import { Bars, Cameras, Gaze, Timing, release, withPictures } from "./draw.js";
import { CalibrationPanel } from "./calibrate.js";
import { decodeAnswer } from "./message.js";

const PROTOCOL = "mien.watch.v1";
const RETRY_MS = [500, 1000, 2000, 4000];
const SLIPPED_PX = 5; // lively faces, which hardly rest, are read as 2 to 4 px

const cameras = new Cameras();
const gaze = new Gaze();
const timing = new Timing();
const panel = new CalibrationPanel();
let bars = null;
let socket = null;
let arrived = null; // the answer whose pictures wait to be decoded, and its socket; older ones are never decoded
let decoding = false;
let newest = null; // the answer that waits to be drawn; older ones are never drawn
let watching = null;
let retries = 0;

const byId = (id) => document.getElementById(id);
const chosen = () => byId("chooser").value;
const digits = (value, places) => (value === null || value === undefined ? "–" : value.toFixed(places));

function setState(state, text) {
  if (document.body.dataset.state !== state) document.body.dataset.state = state;
  if (byId("state-text").textContent !== text) byId("state-text").textContent = text;
  byId("empty").hidden = state !== "empty";
}

function connect() {
  const address = new URL("/v1/watch", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (chosen()) address.searchParams.set("connection", chosen());
  const opened = new WebSocket(address, PROTOCOL);
  opened.binaryType = "arraybuffer";
  opened.onmessage = ({ data }) => {
    if (opened !== socket) return;
    retries = 0;
    if (typeof data === "string") onText(JSON.parse(data));
    else take(decodeAnswer(data), opened);
  };
  opened.onclose = ({ reason }) => {
    if (opened !== socket) return;
    const wait = RETRY_MS[Math.min(retries, RETRY_MS.length - 1)];
    retries += 1;
    arrived = null;
    replaceNewest(null);
    setState("lost", `${reason || "Connection lost."} Trying again in ${wait / 1000} s`);
    setTimeout(() => opened === socket && connect(), wait);
  };
  socket = opened;
}

async function take(answer, from) {
  if (document.hidden) return; // nobody looks: nothing is decoded
  arrived = { answer, from };
  if (decoding) return;
  decoding = true;
  try {
    while (arrived !== null) {
      const { answer: undecoded, from: its } = arrived;
      arrived = null;
      const pictured = await withPictures(undecoded);
      if (its === socket) replaceNewest(pictured);
      else release(pictured);
    }
  } finally {
    decoding = false;
  }
}

function replaceNewest(answer) {
  release(newest);
  newest = answer;
}

function onText(message) {
  if (message.type === "hello") onHello(message);
  else if (message.type === "status") onStatus(message);
  else if (message.type === "calibration") panel.onTold(message);
}

function onHello({ eu_names: names, bundle }) {
  bars ??= new Bars(names); // names of an EU set never change; another set comes with another page
  byId("bundle").textContent = `${bundle.name} · ${bundle.digest.slice(0, 8)}`;
  byId("bundle").title = bundle.digest;
}

function onStatus({ connections, watching: number }) {
  if (number !== watching) {
    watching = number;
    timing.reset();
  }
  fillChooser(connections);
  const headset = connections.find(({ id }) => id === watching);
  panel.onStatus(headset ?? null);
  if (headset === undefined) {
    if (chosen() && connections.length) setState("waiting", `headset ${chosen()} has left; choose another one`);
    else setState("empty", "no headset");
    return;
  }
  if (headset.active) setState("live", "live");
  else setState("waiting", "the headset is silent");
  byId("p50").textContent = digits(headset.latency_ms.p50, 2);
  byId("p99").textContent = digits(headset.latency_ms.p99, 2);
  byId("rate").textContent = digits(headset.rate_hz, 0);
  byId("wearer").textContent = headset.wearer;
  drawSlip(headset.slip);
  const placed = Object.entries(headset.placed);
  const universal = placed.length ? "universal, placed" : "universal";
  byId("head").textContent = headset.head_version === 0 ? universal : headset.head_version === null ? "–" : `version ${headset.head_version}`;
  byId("head").title = placed.map(([camera, one]) => `${camera}: crop moved by ${Math.hypot(one.right_px, one.down_px).toFixed(1)} px`).join("; ");
}

/** How far the headset seems to have slipped since the head was fitted: the camera that says most. */
function drawSlip(slip) {
  const sizes = Object.entries(slip).map(([camera, one]) => [camera, Math.hypot(one.right_px, one.down_px), one.turn_deg]);
  byId("slip-row").hidden = sizes.length === 0;
  if (sizes.length === 0) return;
  const most = Math.max(...sizes.map(([, px]) => px));
  byId("slip").textContent = `${most.toFixed(0)} px`;
  byId("slip").dataset.level = most < SLIPPED_PX ? "good" : "warn";
  byId("slip").title = `${sizes.map(([camera, px, turn]) => `${camera} ${px.toFixed(1)} px, ${turn.toFixed(1)}°`).join("; ")}, from frames at rest. Calibrate, Headset put on again brings it back.`;
}

function fillChooser(connections) {
  const chooser = byId("chooser");
  const options = [["", "newest active"], ...connections.map(({ id, wearer }) => [String(id), `${id} · ${wearer}`])];
  if (chosen() && !options.some(([value]) => value === chosen())) options.push([chosen(), `${chosen()} · has left`]);
  const shown = Array.from(chooser.options, ({ value, text }) => `${value} ${text}`).join();
  if (shown === options.map(([value, text]) => `${value} ${text}`).join()) return;
  const selected = chosen();
  chooser.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === selected)));
}

function draw(now) {
  if (newest !== null && bars !== null) {
    bars.draw(newest);
    cameras.draw(newest);
    gaze.draw(newest);
    timing.draw(newest, now);
    replaceNewest(null);
  }
  panel.draw(now);
  requestAnimationFrame(draw);
}

const streamAddress = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`;
byId("stream-address").textContent = streamAddress;
if (location.host !== "127.0.0.1:8000") byId("stream-command").textContent += ` --url ${streamAddress}`;
byId("chooser").addEventListener("change", () => {
  timing.reset();
  const previous = socket;
  connect();
  previous?.close();
});
connect();
requestAnimationFrame(draw);
