// What /v1/watch sends, decoded: docs/watch.md has the byte table. Pure functions, no page and no socket.

const MAGIC = 0x4e45494d; // "MIEN", little-endian
const HEADER_BYTES = 16;
const REPLY_BYTES = 336;
const PICTURE_BYTES = 16;
const EU_COUNT = 56;

export const CAMERAS = ["left_eye", "right_eye", "mouth"];
export const STAGES = ["wait", "decode", "warp", "inference", "head", "filter", "service"];

function floats(view, offset, count) {
  return Array.from({ length: count }, (_, index) => view.getFloat32(offset + 4 * index, true));
}

/** The values, the pictures (JPEG bytes, not decoded) and the connection's number; throws for any other message. */
export function decodeAnswer(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES + REPLY_BYTES || view.getUint32(0, true) !== MAGIC) {
    throw new Error("The message should be a watch message of at least 352 bytes.");
  }
  if (view.getUint8(4) !== 1 || view.getUint8(5) !== 3) {
    throw new Error("The page and the service are of different versions. Reload the page.");
  }
  const reply = HEADER_BYTES;
  const pictures = [];
  let descriptor = reply + REPLY_BYTES;
  let start = descriptor + PICTURE_BYTES * view.getUint8(6);
  for (; pictures.length < view.getUint8(6); descriptor += PICTURE_BYTES) {
    const length = view.getUint32(descriptor + 8, true);
    pictures.push({ camera: CAMERAS[view.getUint8(descriptor)], jpeg: new Uint8Array(buffer, start, length) });
    start += length;
  }
  return {
    connection: view.getUint32(8, true),
    sequence: view.getUint32(reply + 8, true),
    drops: view.getUint32(reply + 12, true),
    headVersion: view.getUint32(reply + 32, true),
    validity: [0, 1, 2].map((region) => view.getUint8(reply + 36 + region)),
    confidence: floats(view, reply + 40, 3),
    gaze: floats(view, reply + 52, 4), // left yaw, left pitch, right yaw, right pitch, degrees
    lag: floats(view, reply + 68, 4), // gaze, lids, brows, mouth, ms
    stages: STAGES.map((_, stage) => view.getUint32(reply + 84 + 4 * stage, true)), // microseconds
    values: floats(view, reply + 112, EU_COUNT),
    pictures,
  };
}

/** Names grouped for the page: pairs of halves seen by the eyes, pairs seen by the mouth camera, and whole movements.
 *  Each pair is {name, left, right}, each whole one {name, index}; numbers are places in `names`. */
export function groupNames(names) {
  const places = new Map(names.map((name, index) => [name, index]));
  const groups = { eyes: [], mouth: [], whole: [] };
  names.forEach((name, index) => {
    const stem = name.replace(/(Left|Right)$/, "");
    const left = places.get(`${stem}Left`);
    const right = places.get(`${stem}Right`);
    if (left === undefined || right === undefined) groups.whole.push({ name, index });
    else if (index === Math.min(left, right)) groups[index < 24 ? "eyes" : "mouth"].push({ name: stem, left, right });
  });
  return groups;
}
