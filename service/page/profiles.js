// Profiles over HTTP: who there is, whose head answers, going back, deleting. Every change is a request of its own.

const byId = (id) => document.getElementById(id);
const NEW = "";
const LAST = "mien.wearer"; // the profile that was last used in this browser

function lastUsed() {
  try {
    return localStorage.getItem(LAST);
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** Keeps the name of the profile used now; null forgets it. */
export function remember(wearer) {
  try {
    if (wearer === null) localStorage.removeItem(LAST);
    else localStorage.setItem(LAST, wearer);
  } catch {
    // the name is asked for again next time
  }
}

async function refusalOf(response) {
  if (response.ok) return null;
  const { error } = await response.json();
  return `Expected ${error.expected}, found ${error.found}. ${error.remedy}`;
}

/** Sends a wish; null where it was granted, the reason where not. */
export async function post(path, parameters = {}, method = "POST") {
  const address = new URL(path, location.href);
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  try {
    return await refusalOf(await fetch(address, { method }));
  } catch {
    return "The service does not answer.";
  }
}

async function get(path) {
  try {
    const response = await fetch(path);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

export class Profiles {
  #choices = 0; // made by hand

  constructor() {
    for (const id of ["profile", "new-name", "agree"]) byId(id).addEventListener("input", () => this.#offer());
    for (const id of ["profile", "new-name"]) byId(id).addEventListener("input", () => this.#choices++);
    byId("delete").addEventListener("click", () => this.#delete());
    byId("go-back").addEventListener("click", () => this.#change("roll-back"));
  }

  /** The wearer that is chosen, or named anew. */
  chosen() {
    return byId("profile").value === NEW ? byId("new-name").value : byId("profile").value;
  }

  /** Looks who has a profile; offers the headset's wearer, else the one last used here, else a new name. Never a name that is gone. */
  async refresh(wearer) {
    const choices = this.#choices;
    const found = await get("/v1/profiles");
    const kept = this.#choices === choices ? null : byId("profile").value; // chosen while the service was asked
    byId("no-profiles").hidden = found !== null;
    const names = found?.wearers ?? [];
    byId("profile").replaceChildren(...names.map((name) => new Option(name, name)), new Option("a new profile", NEW));
    const offered = [kept, wearer, lastUsed()].find((name) => names.includes(name)) ?? NEW;
    byId("profile").value = kept === NEW ? NEW : offered;
    if (kept === null) byId("new-name").value = "";
    this.available = found !== null;
    this.#offer();
  }

  /** Lists the heads of a wearer, newest first, each with a way to let it answer. */
  async showHeads(wearer) {
    this.wearer = wearer;
    const profile = await get(`/v1/profiles/${encodeURIComponent(wearer)}`);
    if (profile === null) return;
    const universal = { version: 0, live: profile.live_version === 0, serves: true, created_unix_s: null };
    byId("heads").replaceChildren(...[...profile.heads.toReversed(), universal].map((head) => this.#row(head)));
    byId("go-back").disabled = profile.live_version === 0;
  }

  #row({ version, live, serves, created_unix_s: created }) {
    const row = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = version === 0 ? "universal head" : `head ${version}`;
    const when = document.createElement("span");
    when.className = "quiet";
    when.textContent = created === null ? "for everybody" : new Date(1000 * created).toLocaleString();
    const use = document.createElement("button");
    use.type = "button";
    use.textContent = live ? "answers now" : serves ? "use" : "of another bundle";
    use.disabled = live || !serves;
    use.addEventListener("click", () => this.#change(`heads/${version}/make-live`));
    row.dataset.version = version;
    row.dataset.live = String(live);
    row.append(name, when, use);
    return row;
  }

  async #change(what) {
    byId("heads-note").textContent = (await post(`/v1/profiles/${encodeURIComponent(this.wearer)}/${what}`)) ?? "";
    await this.showHeads(this.wearer);
  }

  async #delete() {
    const wearer = byId("profile").value;
    const button = byId("delete");
    if (button.dataset.sure !== wearer) {
      button.dataset.sure = wearer;
      button.textContent = `Really delete all of ${wearer}?`;
      return;
    }
    const refusal = await post(`/v1/profiles/${encodeURIComponent(wearer)}`, {}, "DELETE");
    byId("setup-note").textContent = refusal ?? `${wearer} is deleted: heads, recordings, consents.`;
    if (refusal === null && lastUsed() === wearer) remember(null);
    await this.refresh("");
  }

  #offer() {
    const fresh = byId("profile").value === NEW;
    byId("new-profile").hidden = !fresh;
    byId("delete").hidden = fresh;
    byId("delete").dataset.sure = NEW;
    byId("delete").textContent = "Delete everything of this profile";
    const agreed = byId("agree").checked && byId("new-name").validity.valid;
    byId("start").disabled = !(this.available && agreed && this.chosen());
    byId("recentre").disabled = !(this.available && this.chosen() && (agreed || !fresh)); // a profile has agreed before
  }
}
