// A simple face that shows what a cue asks for, as in a mirror: the wearer's left is on the left. Drawn as SVG, no pictures loaded.

const NAMESPACE = "http://www.w3.org/2000/svg";
const NEUTRAL = { lid: 0, squint: 0, brow: 0, jaw: 0, smile: 0, wide: 0, pucker: 0, funnel: 0, shift: 0, roll: 0, cheeks: 0, sneer: 0, tongue: 0 };

/** What each cue moves, at its apex. */
export const POSES = {
  rest: {}, look: {},
  eyes_closed: { lid: -1 }, eyes_wide: { lid: 0.5, brow: 0.25 }, squint: { squint: 1 },
  brows_up: { brow: 1 }, brows_down: { brow: -1 },
  jaw_open: { jaw: 1 }, smile: { smile: 1 }, frown: { smile: -0.9 }, pucker: { pucker: 1 }, funnel: { funnel: 1 },
  stretch: { wide: 1 }, mouth_left: { shift: -1 }, mouth_right: { shift: 1 }, lips_in: { roll: 1 }, cheeks: { cheeks: 1 },
  sneer: { sneer: 1 }, tongue: { tongue: 1, jaw: 0.35 },
};

/** How far the picture has moved, 0 to 1, at this share of the recording: from rest to the apex and back for each repetition. */
export function amountAt(share, repetitions) {
  const part = (share * repetitions) % 1;
  const rise = Math.min(1, Math.max(0, (part - 0.1) / 0.2));
  const fall = Math.min(1, Math.max(0, (part - 0.7) / 0.2));
  const shown = rise - fall;
  return shown * shown * (3 - 2 * shown);
}

/** The dot that is to be looked at, [yaw, pitch] in degrees, at this share of the recording; null where a cue has none. */
export function dotAt(dots, share) {
  return dots.length ? dots[Math.min(dots.length - 1, Math.floor(share * dots.length))] : null;
}

export class Face {
  constructor(svg) {
    const add = (name, kind, parent = svg) => {
      const shape = document.createElementNS(NAMESPACE, name);
      shape.setAttribute("class", kind);
      parent.append(shape);
      return shape;
    };
    this.svg = svg;
    this.head = add("path", "face-head");
    this.eyes = [-1, 1].map((side) => {
      const clip = add("clipPath", "");
      clip.id = `eye-clip${side}`;
      const opening = add("path", "", clip);
      const white = add("path", "face-eye");
      const iris = add("circle", "face-iris");
      iris.setAttribute("clip-path", `url(#${clip.id})`);
      return { side, opening, white, iris, lid: add("path", "face-line"), brow: add("path", "face-brow") };
    });
    this.nose = add("path", "face-line");
    this.wrinkles = add("path", "face-line");
    this.lips = add("path", "face-lips");
    this.gap = add("path", "face-gap");
    this.teeth = add("path", "face-teeth");
    this.tongue = add("ellipse", "face-tongue");
    this.dot = add("circle", "face-dot");
    this.dot.setAttribute("r", "6");
    this.draw("rest", 0, null);
  }

  /** Shows a cue at an amount of 0 to 1, and the dot that the eyes follow, where there is one. */
  draw(cue, amount, dot) {
    const pose = { ...NEUTRAL };
    for (const [name, apex] of Object.entries(POSES[cue] ?? {})) pose[name] = apex * amount;
    const [yaw, pitch] = dot ?? [0, 0];
    this.#drawHead(pose);
    for (const eye of this.eyes) this.#drawEye(eye, pose, yaw, pitch);
    this.#drawMouth(pose);
    this.dot.setAttribute("cx", 100 - 4.4 * yaw); // yaw is positive to the wearer's left
    this.dot.setAttribute("cy", 84 - 4.4 * pitch);
    this.dot.setAttribute("opacity", dot === null ? 0 : 1);
  }

  #drawHead({ jaw, cheeks, sneer }) {
    const chin = 186 + 8 * jaw;
    const out = 18 * cheeks;
    this.head.setAttribute("d", `M34 92 C34 40 62 18 100 18 C138 18 166 40 166 92 C${166 + out} 132 ${146 + out} ${chin} 100 ${chin} C${54 - out} ${chin} ${34 - out} 132 34 92 Z`);
    const top = 112 - 3 * sneer;
    this.nose.setAttribute("d", `M91 ${top} Q100 ${top + 7} 109 ${top}`);
    this.wrinkles.setAttribute("d", "M88 92 L95 98 M112 92 L105 98 M84 100 L93 104 M116 100 L107 104");
    this.wrinkles.setAttribute("opacity", sneer);
  }

  #drawEye({ side, opening, white, iris, lid, brow }, pose, yaw, pitch) {
    const x = 100 + 32 * side;
    const open = Math.max(0, 1 + pose.lid) * (1 - 0.62 * pose.squint);
    const up = 19 * open;
    const down = 11 * open - 4 * pose.squint;
    const middle = 84 + 8 * (1 - Math.min(1, open)) - 4 * pose.squint;
    const upper = `M${x - 17} ${middle} Q${x} ${middle - up} ${x + 17} ${middle}`;
    const shape = `${upper} Q${x} ${middle + Math.max(1, down)} ${x - 17} ${middle} Z`;
    opening.setAttribute("d", shape);
    white.setAttribute("d", shape);
    lid.setAttribute("d", upper);
    iris.setAttribute("cx", x - 0.38 * yaw);
    iris.setAttribute("cy", 82 - 0.3 * pitch);
    iris.setAttribute("r", 6);
    const lift = -10 * Math.max(0, pose.brow);
    const inner = 11 * Math.max(0, -pose.brow);
    brow.setAttribute("d", `M${x + 19 * side} ${62 + lift + 0.4 * inner} Q${x} ${52 + lift + 0.7 * inner} ${x - 18 * side} ${60 + lift + inner}`);
  }

  #drawMouth({ jaw, smile, wide, pucker, funnel, shift, roll, sneer, tongue, cheeks }) {
    const x = 100 + 17 * shift;
    const y = 144 + 4 * jaw;
    const half = 25 + 6 * Math.max(0, smile) + 10 * wide - 13 * pucker - 10 * funnel - 5 * cheeks - 3 * jaw;
    const corner = y - 10 * smile;
    const lip = 5.5 + 4 * pucker + 3 * funnel - 4 * roll - 1.5 * wide;
    const open = 17 * jaw + 11 * funnel;
    const raised = 7 * sneer;
    const lens = (above, below, inset) =>
      `M${x - half + inset} ${corner} Q${x} ${y - 2 * above + 10 * smile} ${x + half - inset} ${corner} Q${x} ${y + 2 * below + 10 * smile} ${x - half + inset} ${corner} Z`;
    this.lips.setAttribute("d", lens(lip + raised + 0.5 * open, lip + open, 0));
    this.gap.setAttribute("d", lens(raised + 0.5 * open + 0.4, open + 0.4, 4));
    this.teeth.setAttribute("d", lens(raised, 0, 7));
    this.teeth.setAttribute("opacity", sneer);
    this.tongue.setAttribute("cx", x);
    this.tongue.setAttribute("cy", y + 9 + 9 * tongue);
    this.tongue.setAttribute("rx", 11);
    this.tongue.setAttribute("ry", 14 * tongue);
  }
}
