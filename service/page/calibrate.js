// The calibration panel: profile and consent, the cues one after another, the report. What happens is told by /v1/watch; what is
// wished goes out as POST, to this service alone.

import { Face, amountAt, dotAt } from "./cue.js";
import { Profiles, post, remember } from "./profiles.js";
import { drawReport } from "./report.js";

const ENDINGS = {
  cancelled: "Stopped. The head in use stays.",
  closed: "Done.",
  lost: "The headset stayed away. The head in use stays.",
  no_rest: "The resting face could not be recorded, and everything is measured from it. The head in use stays.",
  nothing_to_learn: "No movement was recorded that could be used. The head in use stays.",
  failed: "The calibration worker failed. The head in use stays.",
};

const byId = (id) => document.getElementById(id);

/** Text in an element, written only where it changes: screen readers repeat what is written. */
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

export class CalibrationPanel {
  constructor() {
    this.dialog = byId("calibrate");
    this.face = new Face(byId("cue-picture"));
    this.profiles = new Profiles();
    this.headset = null;
    this.cue = null; // fields of the newest cue, with the times of its countdown and its recording
    this.total = 0;
    byId("calibrate-open").addEventListener("click", () => this.#open());
    byId("calibrate-close").addEventListener("click", () => this.dialog.close());
    byId("start").addEventListener("click", () => this.#start("start"));
    byId("recentre").addEventListener("click", () => this.#start("recentre"));
    byId("skip").addEventListener("click", () => this.#wish("skip"));
    byId("redo").addEventListener("click", () => this.cue && this.#wish("redo", { cue: this.cue.cue }));
    byId("stop").addEventListener("click", () => this.#wish("cancel"));
    byId("done").addEventListener("click", () => this.#finish());
    byId("again").addEventListener("click", () => this.#again());
  }

  /** The headset that is shown, as in a status; null where there is none. */
  onStatus(headset) {
    if (headset?.id !== this.headset?.id) {
      this.#forget();
      this.#show("setup");
    }
    this.headset = headset;
    byId("calibrate-open").disabled = headset === null;
    say("calibrate-who", headset === null ? "no headset" : `headset ${headset.id} · ${headset.wearer}`);
    this.#showBusy();
  }

  /** An event of its calibration. */
  onTold(told) {
    const since = performance.now() - told.ago_ms;
    switch (told.event) {
      case "starting":
        this.#forget();
        this.running = true;
        this.wearer = told.wearer;
        this.#show("run");
        this.#moment("wait", "The worker loads: some seconds.");
        break;
      case "cue":
        this.cue = { ...told, begins: since + told.begins_in_ms, recorded: null };
        this.total = Math.max(this.total, told.left + 1);
        this.#show("run");
        this.#chip(told.cue, "asked");
        this.#gauge(null);
        byId("progress").value = (this.total - told.left - 1) / this.total;
        say("prompt", told.prompt);
        say("count", `${this.total - told.left} of ${this.total}${told.attempt > 1 ? ` · attempt ${told.attempt} of 3` : ""}`);
        this.#moment("countdown", "Get ready");
        break;
      case "recording":
        if (this.cue) this.cue.recorded = since;
        this.#verdict("", "");
        this.#moment("recording", "Now");
        break;
      case "gauge":
        this.#gauge(told.value);
        break;
      case "judging":
        this.#moment("judging", "Looking at the recording");
        break;
      case "accepted":
        this.#chip(told.cue, "accepted");
        this.#verdict("good", "Accepted.");
        break;
      case "refused":
        this.#chip(told.cue, "refused");
        this.#verdict("bad", `${told.again ? "Once more. " : "Left out; it can be redone. "}${told.reason}`);
        break;
      case "declined":
        this.#verdict("bad", `No ${told.wish} now: ${told.reason}.`);
        break;
      case "paused":
        this.#moment("wait", "No frames come. It goes on when they do.");
        break;
      case "fitting":
        byId("progress").value = 1;
        this.cue = null;
        this.#leaveChips(null);
        say("prompt", "That was all. Relax.");
        say("count", "");
        this.#moment("wait", told.cues.length === 1 ? "Looking how the headset sits" : "Learning your face");
        break;
      case "report":
        this.#report(told);
        break;
      case "ended":
        this.running = false;
        byId("cues").replaceChildren(); // nothing can be done again any more
        this.#showBusy();
        if (this.dialog.dataset.step === "run") {
          this.#show("setup");
          say("setup-note", ENDINGS[told.outcome] ?? told.outcome);
        }
        break;
    }
    this.#showBusy();
  }

  /** Moves what moves by itself: once a screen refresh, nothing while the panel is closed. */
  draw(now) {
    if (!this.dialog.open || this.dialog.dataset.step !== "run") return;
    if (this.cue === null) {
      this.face.draw("rest", 0, null);
      return;
    }
    const { cue, dots_deg: dots, repetitions, length_ms: length, begins, recorded } = this.cue;
    const phase = this.dialog.dataset.phase;
    if (phase === "countdown") {
      say("seconds", String(Math.max(0, Math.ceil((begins - now) / 1000)) || ""));
      this.face.draw(cue, amountAt(((now / 1600) % 1) * 0.999, 1), dotAt(dots, 0));
    } else if (phase === "recording" && recorded !== null) {
      const share = Math.min(1, (now - recorded) / length);
      byId("recorded").value = share;
      say("seconds", String(Math.max(0, Math.ceil((length - (now - recorded)) / 1000)) || ""));
      this.face.draw(cue, share < 1 ? amountAt(share, repetitions) : 0, share < 1 ? dotAt(dots, share) : null);
    } else {
      this.face.draw("rest", 0, null);
    }
  }

  async #open() {
    this.dialog.showModal();
    await this.profiles.refresh(this.headset?.wearer ?? "");
  }

  /** Starts a calibration, or a re-centring: that one goes without agreeing anew where a consent is on record. */
  async #start(what) {
    const wearer = this.profiles.chosen();
    const keep = byId("keep").checked;
    const version = byId("consent").dataset.version;
    const agreed = byId("agree").checked ? { version, keep_takes: String(keep), retention_days: "30" } : {};
    say("setup-note", "");
    const refusal = await this.#post(what, { wearer, ...agreed });
    if (refusal === null) remember(wearer);
    else say("setup-note", refusal);
  }

  async #wish(what, parameters = {}) {
    const refusal = await this.#post(what, parameters);
    if (refusal !== null) this.#verdict("bad", refusal);
  }

  async #post(what, parameters) {
    if (this.headset === null) return "There is no headset.";
    return post(`/v1/calibration/${this.headset.id}/${what}`, parameters);
  }

  async #finish() {
    if (this.running) await this.#post("cancel", {});
    this.dialog.close();
    this.#show("setup");
  }

  async #again() {
    if (this.running) await this.#post("cancel", {});
    this.#show("setup");
  }

  async #report(told) {
    this.cue = null;
    this.#leaveChips(null);
    this.#show("report");
    drawReport(told);
    await this.profiles.showHeads(this.wearer);
  }

  #forget() {
    this.running = false;
    this.cue = null;
    this.total = 0;
    byId("cues").replaceChildren();
    this.#verdict("", "");
    say("prompt", "");
    say("count", "");
    byId("progress").value = 0;
  }

  #show(step) {
    if (this.dialog.dataset.step === step) return;
    this.dialog.dataset.step = step;
    this.dialog.scrollTop = 0;
    if (step === "setup" && this.dialog.open) this.profiles.refresh(this.headset?.wearer ?? "");
  }

  #showBusy() {
    byId("calibrate-open").textContent = this.running ? "Calibrating" : "Calibrate";
    byId("calibrate-open").classList.toggle("busy", this.running);
  }

  #moment(phase, text) {
    this.dialog.dataset.phase = phase;
    say("moment", text);
    if (phase !== "countdown" && phase !== "recording") say("seconds", "");
    if (phase !== "recording") byId("recorded").value = 0;
  }

  #verdict(kind, text) {
    byId("verdict").dataset.kind = kind;
    say("verdict", text);
  }

  #gauge(value) {
    const gauge = byId("gauge");
    gauge.dataset.known = String(value !== null);
    gauge.setAttribute("aria-valuenow", (value ?? 0).toFixed(2));
    gauge.firstElementChild.style.transform = `scaleY(${value ?? 0})`;
    say("gauge-number", value === null ? "" : value.toFixed(1));
  }

  #chip(cue, state) {
    let chip = byId("cues").querySelector(`[data-cue="${cue}"]`);
    if (chip === null) {
      chip = document.createElement("button");
      chip.type = "button";
      chip.dataset.cue = cue;
      chip.textContent = cue.replaceAll("_", " ");
      chip.addEventListener("click", () => this.#wish("redo", { cue }));
      byId("cues").append(chip);
    }
    this.#leaveChips(chip);
    chip.dataset.state = state;
    chip.title = `Do ${chip.textContent} again`;
  }

  /** What was asked for and never judged was skipped; `asked` is asked for now. */
  #leaveChips(asked) {
    for (const chip of byId("cues").children) {
      if (chip.dataset.state === "asked" && chip !== asked) chip.dataset.state = "skipped";
    }
  }
}
