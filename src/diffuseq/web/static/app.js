// The page: ask for a stream, show its frames, scrub, pin words, compare. Text goes in by textContent only.
"use strict";

const EXAMPLES = [ // for models that come without their own
  "How do I learn to play the guitar?",
  "What is the best way to save money?",
  "Why do people like music so much?",
];
const OTHER_CALLS = [1, 3, 10, 30];
const FRAME_MS = 110; // the shortest time that a frame is shown on its way, so that fast models can be seen
const LONGEST_SHOW_MS = 4000;
const DIALS = {
  candidates: { label: "Candidates", kind: "range", min: 1, max: 20, step: 1 },
  steps: { label: "Calls of the network", kind: "range", min: 1, max: 100, step: 1 },
  sampler: { label: "Sampler", kind: "select" },
  temperature: { label: "Temperature", kind: "range", min: 0, max: 2, step: 0.05 },
  order_noise: { label: "Chance in the order", kind: "range", min: 0, max: 2, step: 0.25, only: "settle" },
  churn: { label: "Churn (fresh noise)", kind: "range", min: 0, max: 1, step: 0.05, only: "ddim" },
  eta: { label: "Eta (instead of churn)", kind: "number", min: 0, max: 1, step: 0.05, placeholder: "off", only: "ddim" },
  likelihood_weight: { label: "Likelihood in the choice", kind: "range", min: 0, max: 1, step: 0.05 },
  source_weight: { label: "Distance from the source in the choice", kind: "range", min: 0, max: 1, step: 0.05 },
  guidance: { label: "Guidance", kind: "range", min: 1, max: 5, step: 0.25 },
  length: { label: "Length in tokens", kind: "number", min: 1, placeholder: "predicted" },
  seed: { label: "Seed", kind: "seed", min: 0 },
};

const $ = (id) => document.getElementById(id);
const trace = { asked: null, frames: [], answer: null, done: false, at: 0, candidate: 0 };
let models = {};
let limits = {};
let running = null; // the AbortController of the stream at hand
let refocus = -1; // the word that had the focus before noise took its place
let playing = 0; // a number that changes whenever another playback begins

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- the model and its dials

async function loadModels() {
  const answer = await fetch("/v1/models");
  if (!answer.ok) throw new Error("The server does not answer; is it still running?");
  const told = await answer.json();
  limits = told.limits;
  models = Object.fromEntries(told.models.map((model) => [model.name, model]));
  const { title, kind, parameters } = models.main;
  $("model").textContent = `${title} (${kind}, ${(parameters / 1e6).toFixed(1)} M parameters)`;
  if (models.compare) {
    const others = "steps" in models.main.dials ? " and with other numbers of calls" : "";
    $("beside-note").textContent = `The same source by ${models.compare.title} (${models.compare.kind})${others}.`;
  }
  offerExamples();
  buildDials();
}

function offerExamples() {
  const { examples } = models.main;
  for (const example of examples.length ? examples : EXAMPLES) {
    const use = () => { $("source").value = example; $("template").value = ""; templateChanged(); run(); };
    $("examples").append(element("button", { type: "button", class: "plain", onclick: use }, example));
  }
  if (examples.length) $("source").placeholder = examples[0];
}

function buildDials() {
  const own = models.main.dials;
  for (const [name, dial] of Object.entries(DIALS)) {
    if (!(name in own) || (name === "guidance" && !models.main.can_guide)) continue;
    if (name === "sampler" && models.main.samplers.length < 2) continue;
    const id = `dial-${name}`;
    const label = element("label", { for: id }, dial.label);
    const box = element("div", { class: "dial", "data-dial": name }, label);
    const most = { candidates: limits.candidates, steps: limits.calls, length: models.main.longest_answer }[name];
    if (dial.kind === "select") {
      const choices = models.main.samplers.map((option) => element("option", { value: option }, option));
      box.append(element("select", { id, onchange: showFittingDials }, ...choices));
    } else if (dial.kind === "range") {
      const shown = element("output", { for: id });
      // the model's own value may lie beyond the marks, or between two of them
      const least = Math.min(dial.min, own[name]);
      const largest = Math.min(Math.max(dial.max, own[name]), most ?? Infinity);
      const marks = (own[name] - least) / dial.step;
      const input = element("input", {
        id, type: "range", min: least, max: largest, step: Math.abs(marks - Math.round(marks)) < 1e-6 ? dial.step : "any",
        oninput: (event) => { shown.textContent = event.target.value; },
      });
      box.append(shown, input);
    } else {
      const input = element("input", {
        id, type: "number", min: dial.min, max: most ?? dial.max ?? Number.MAX_SAFE_INTEGER, step: dial.step ?? 1,
        placeholder: dial.placeholder, inputmode: dial.step ? "decimal" : "numeric",
      });
      if (dial.kind === "seed") {
        const roll = () => { input.value = Math.floor(Math.random() * 1e6); };
        const dice = element("button", { type: "button", class: "secondary", onclick: roll }, "Another");
        box.append(element("div", { class: "pair" }, input, dice));
      } else box.append(input);
    }
    $("dials").append(box);
    setDial(name, own[name]);
  }
  showFittingDials();
}

function setDial(name, value) {
  const input = $(`dial-${name}`);
  if (!input) return;
  input.value = value ?? "";
  if (input.type === "range") input.previousElementSibling.textContent = input.value;
}

function showFittingDials() {
  const sampler = $("dial-sampler")?.value;
  for (const box of $("dials").children) {
    const only = DIALS[box.dataset.dial].only;
    box.hidden = Boolean(only && only !== (sampler ?? models.main.dials.sampler));
  }
}

function settings() {
  const chosen = {};
  for (const box of $("dials").children) {
    const name = box.dataset.dial;
    const value = $(`dial-${name}`).value;
    if (box.hidden || value === "") continue;
    chosen[name] = name === "sampler" ? value : Number(value);
  }
  return chosen;
}

// ---- asking

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function request() {
  const asked = { source: $("source").value, settings: settings() };
  if ($("template").value.trim()) {
    asked.template = $("template").value;
    if (!asked.template.includes("[...]")) delete asked.settings.length;
  }
  return asked;
}

async function post(path, body, signal) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is it still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.detail || `The server answered with status ${answer.status}.`);
  }
  return answer;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const [name, data] = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

async function run(goTo = null) {
  if (!$("source").value.trim()) {
    problem("Type a sentence first.");
    $("source").focus();
    return;
  }
  running?.abort();
  const mine = (running = new AbortController());
  const asked = request();
  Object.assign(trace, { asked, frames: [], answer: null, done: false, at: 0, candidate: 0 });
  problem("");
  $("told").textContent = $("unread").textContent = "";
  $("why").hidden = $("candidates-part").hidden = $("beside-part").hidden = true;
  $("beside").replaceChildren();
  $("go").textContent = "Forming …";
  showPureNoise(asked.source);
  const shown = play(mine);
  try {
    const answer = await post("/v1/stream", asked, mine.signal);
    for await (const [name, data] of events(answer)) {
      if (mine.signal.aborted) return;
      if (name === "frame") trace.frames.push(data);
      else if (name === "answer") trace.answer = data;
      else throw new Error(data.detail);
    }
    if (!trace.answer) throw new Error("The connection broke before the answer; ask again.");
    await shown;
    if (!mine.signal.aborted) finish(goTo);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    mine.abort();
    problem(error.message);
    if (!trace.frames.length) showNothing();
  } finally {
    if (running === mine) {
      running = null;
      $("go").textContent = "Watch it form";
    }
  }
}

// Shows frames in order as they come, each for a while, until the answer is there and all were shown.
async function play(mine = null) {
  const turn = ++playing;
  const live = () => mine && !mine.signal.aborted && !trace.answer;
  for (let at = 0; turn === playing; ) {
    if (at < trace.frames.length) {
      show(at++);
      const total = trace.frames[0].total;
      await pause(Math.min(FRAME_MS, LONGEST_SHOW_MS / total));
    } else if (live()) await pause(15);
    else return;
  }
}

function finish(goTo) {
  const { answer } = trace;
  trace.done = true;
  trace.candidate = answer.chosen;
  $("told").textContent = `Formed in ${plural(answer.forwards, "call")}: ${answer.text}`;
  $("unread").textContent = answer.unread
    ? `The source is longer than this model reads: its last ${plural(answer.unread, "token")} ${answer.unread === 1 ? "was" : "were"} left out.`
    : "";
  $("candidates-part").hidden = false;
  $("beside-part").hidden = !rivals(trace.asked).length;
  showCandidates();
  if (goTo) {
    trace.candidate = Math.min(goTo.candidate, answer.candidates.length - 1);
    show(Math.min(goTo.frame, trace.frames.length - 1));
    showCandidates();
  } else show(trace.frames.length - 1);
  $("link").disabled = $("play").disabled = false;
  keepLink();
}

// ---- the draft

const NOISE = "▒";

function stopTime() {
  $("time").value = 0;
  $("time").disabled = $("play").disabled = $("link").disabled = true;
}

function showNothing() {
  const hint = element("p", { class: "hint" }, "Words will form here, out of noise.");
  $("draft").replaceChildren(hint);
  stopTime();
  $("step").textContent = "no steps yet";
  $("which").textContent = "";
}

// What there is before the first call: nothing of the answer is known, so noise in the shape of the source.
function showPureNoise(source) {
  refocus = [...$("draft").children].indexOf(document.activeElement);
  const words = source.trim().split(/\s+/).slice(0, 40).map((bare) =>
    element("span", { class: "word noise ends" }, element("span", { class: "text" }, noiseFor(bare.slice(0, 12)))));
  $("draft").replaceChildren(element("span", { class: "hidden" }, "pure noise"), ...words);
  stopTime();
  $("step").textContent = "pure noise, no call yet";
  $("which").textContent = "";
}

function show(at) {
  const frame = trace.frames[at];
  if (!frame) return;
  trace.at = at;
  const row = frame.rows[Math.min(trace.candidate, frame.rows.length - 1)];
  const isFree = refocus >= 0 && document.activeElement === document.body;
  const focused = isFree ? refocus : [...$("draft").children].indexOf(document.activeElement);
  refocus = -1;
  $("draft").replaceChildren(...row.map((piece, place) => word(piece, place, at, row[place + 1])));
  if (focused >= 0) $("draft").children[Math.min(focused, row.length - 1)]?.focus();
  const time = $("time");
  const total = trace.done ? trace.frames.length : frame.total;
  time.max = total - 1;
  time.value = at;
  time.disabled = !trace.frames.length;
  const cost = `step ${at + 1} of ${total}`;
  $("step").textContent = `${cost}, ${plural(frame.forwards, "call")}, ${frame.seconds.toFixed(2)} s`;
  time.setAttribute("aria-valuetext", `${cost}: ${row.map((piece) => piece[0]).join("").trim()}`);
  const count = frame.rows.length;
  const chosen = trace.done && trace.candidate === trace.answer.chosen ? ", the chosen one" : "";
  $("which").textContent = count > 1 ? `candidate ${trace.candidate + 1} of ${count}${chosen}` : "";
  if (!trace.done) showForming(frame);
}

function word([text, sure, state], place, at, next) {
  const bare = text.trimStart();
  const shown = state === "noise" ? noiseFor(bare) : bare || "·";
  const bar = element("i");
  bar.style.setProperty("--sure", `${Math.round(sure * 100)}%`);
  const ends = !next || next[0] !== next[0].trimStart() ? " ends" : "";
  const percent = `${Math.round(sure * 100)} %`;
  const label = state === "noise" ? "noise" : `${bare}, ${state}, confidence ${percent}`;
  return element(
    "button",
    { type: "button", class: `word ${state}${ends}`, "aria-label": label, title: `${state}, ${percent}`,
      "data-place": place, onclick: () => openPin(at, place) },
    element("span", { class: "text" }, shown),
    element("span", { class: "meter", "aria-hidden": "true" }, bar),
  );
}

const noiseFor = (bare) => NOISE.repeat(Math.max(1, [...bare].length));

function showForming(frame) {
  const rows = frame.rows.map((row, number) => {
    const text = row.map(([piece, , state]) => {
      const bare = piece.trimStart();
      return state === "noise" ? (piece === bare ? "" : " ") + noiseFor(bare) : piece;
    });
    const said = element("span", { class: "said", dir: "auto" }, text.join("").trim());
    const place = element("span", { class: "numbers" }, String(number + 1));
    return element("li", { class: "candidate forming" }, place, said);
  });
  $("candidates-part").hidden = false;
  $("score-name").hidden = true;
  $("candidates").replaceChildren(...rows);
}

function showCandidates() {
  const { answer } = trace;
  const rows = answer.candidates.map((text, row) => {
    const said = element("span", { class: "said", dir: "auto" }, text || "(empty)");
    if (row === answer.chosen && answer.candidates.length > 1) said.append(element("span", { class: "badge" }, "chosen"));
    if (answer.passed_over.includes(row)) said.append(element("span", { class: "quiet" }, " the source itself, passed over"));
    const score = answer.candidates.length > 1 ? worth(row).toFixed(2) : "";
    const choose = () => { trace.candidate = row; show(trace.at); showCandidates(); keepLink(); };
    const button = element(
      "button",
      { type: "button", class: "candidate", "aria-pressed": String(row === trace.candidate), onclick: choose },
      element("span", { class: "numbers" }, String(row + 1)), said,
      element("span", { class: "numbers score", title: scoreName(answer) }, score),
    );
    return element("li", {}, button);
  });
  const focused = [...$("candidates").children].findIndex((item) => item.contains(document.activeElement));
  $("candidates").replaceChildren(...rows);
  if (focused >= 0) rows[focused]?.firstChild.focus();
  $("score-name").textContent = scoreName(answer);
  $("why").hidden = $("score-name").hidden = answer.candidates.length < 2;
  if (!$("why").hidden) showAgreement();
}

function meanAgreement(row) {
  const others = trace.answer.agreement[row].filter((_, column) => column !== row);
  return others.reduce((sum, value) => sum + value, 0) / Math.max(1, others.length);
}

// What counts beside the mean, as far as the settings let it: name, sign and weight, and the numbers.
const extrasOf = ({ likelihood_weight, log_p, source_weight, to_source }) => [
  { name: "log-probability", heading: "log p", sign: "+", weight: likelihood_weight, numbers: log_p },
  { name: "BLEU with the source", heading: "to source", sign: "−", weight: source_weight, numbers: to_source },
].filter(({ weight }) => weight);

// What decides.
function worth(row) {
  const add = (sum, { sign, weight, numbers }) => sum + (sign === "+" ? 1 : -1) * weight * numbers[row];
  return extrasOf(trace.answer).reduce(add, meanAgreement(row));
}

const scoreName = (answer) =>
  ["mean BLEU with the others", ...extrasOf(answer).map(({ name, sign, weight }) => `${sign} ${weight} × ${name}`)].join(" ");

// Which candidate won and by what, in words.
function reasonOf(answer) {
  const { agreement, chosen, passed_over: passed } = answer;
  const extras = extrasOf(answer);
  const scores = agreement.map((_, row) => (passed.includes(row) ? -Infinity : worth(row)));
  const equals = scores.flatMap((score, row) => (row !== chosen && Math.abs(score - scores[chosen]) < 1e-9 ? [row + 1] : []));
  const terms = extras.map(({ sign, weight, numbers }) => ` ${sign} ${weight} × ${numbers[chosen].toFixed(2)}`);
  const sum = extras.length ? ` (${meanAgreement(chosen).toFixed(3)}${terms.join("")})` : "";
  const others = passed.length ? ` of those that are not the source itself (as ${passed.map((row) => row + 1).join(", ")})` : "";
  const name = extras.length ? "score" : "mean";
  const reason = `Candidate ${chosen + 1} has the highest ${name}${others}, ${scores[chosen].toFixed(3)}${sum}`;
  return equals.length ? `${reason}, and is the first of those that share it (${[chosen + 1, ...equals].join(", ")}).` : `${reason}.`;
}

function showAgreement() {
  const { agreement, chosen } = trace.answer;
  const extras = extrasOf(trace.answer);
  $("why-told").textContent = reasonOf(trace.answer);
  const names = agreement.map((_, column) => element("th", { scope: "col" }, String(column + 1)));
  const head = element("tr", {}, element("td", { class: "self" }), ...names, element("th", { scope: "col" }, "mean"),
    ...extras.map(({ heading }) => element("th", { scope: "col" }, heading)),
    ...(extras.length ? [element("th", { scope: "col" }, "score")] : []));
  const body = agreement.map((values, row) => {
    const cells = values.map((value, column) => {
      if (row === column) return element("td", { class: "self" }, "·");
      const cell = element("td", {}, value.toFixed(2));
      cell.style.setProperty("--share", (Math.min(1, value) * 0.45).toFixed(3));
      return cell;
    });
    const ends = [meanAgreement(row).toFixed(3), ...extras.map(({ numbers }) => numbers[row].toFixed(2)),
      ...(extras.length ? [worth(row).toFixed(3)] : [])]
      .map((number) => element("td", { class: "mean" }, number));
    return element("tr", { class: row === chosen ? "best" : null }, element("th", { scope: "row" }, String(row + 1)), ...cells, ...ends);
  });
  const caption = element("caption", {}, "BLEU of each candidate (row) with each other (column)");
  $("agreement").replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...body));
}

// ---- pinning

const SLOT = "[MASK]";

// The template that keeps the pinned words of a row, with another text at one place (null frees it).
function templateOf(row, place, text) {
  const parts = row.map(([piece, , state], i) => {
    if (i === place) return text === null ? ` ${SLOT}` : piece.startsWith(" ") || i === 0 ? ` ${text}` : text;
    return state === "pinned" ? piece : ` ${SLOT}`;
  });
  const joined = parts.join("").trim();
  return joined.replace(/\[MASK\](?: \[MASK\])+/g, (run) => `${SLOT}*${run.split(" ").length}`);
}

function openPin(at, place) {
  const row = trace.frames[at].rows[Math.min(trace.candidate, trace.frames[at].rows.length - 1)];
  const [text, , state] = row[place];
  const dialog = $("pin");
  $("pin-word").value = state === "noise" ? "" : text.trim();
  $("pin-note").textContent = `Place ${place + 1} of ${row.length}. The rest forms again around what is pinned.`;
  $("pin-off").hidden = state !== "pinned";
  playing++; // whoever pins wants the draft to stand still
  dialog.returnValue = "cancel";
  dialog.onclose = () => {
    const typed = $("pin-word").value.trim();
    if (dialog.returnValue === "pin" && typed) $("template").value = templateOf(row, place, typed);
    else if (dialog.returnValue === "unpin") {
      const left = row.some(([, , other], i) => i !== place && other === "pinned");
      $("template").value = left ? templateOf(row, place, null) : "";
    } else return;
    templateChanged();
    run();
  };
  dialog.showModal();
  $("pin-word").select();
}

function templateChanged() {
  $("unpin").hidden = !$("template").value;
}

// ---- side by side

// What is asked for the cards: the other model, and this one with several numbers of calls, the chosen one among them.
function rivals(asked) {
  const jobs = [];
  if (models.compare) {
    const { dials } = models.compare;
    // A model that gives a single answer by its own settings (greedy, a beam) may be unable to give several.
    const shared = dials.candidates > 1 ? ["candidates", "seed"] : ["seed"];
    const known = Object.entries(asked.settings).filter(([name]) => shared.includes(name) && name in dials);
    const body = { source: asked.source, model: "compare", settings: Object.fromEntries(known) };
    jobs.push({ title: `${models.compare.title} (${models.compare.kind})`, body });
  }
  const own = asked.settings.steps;
  if (own) {
    const counts = [...new Set([...OTHER_CALLS, own])].filter((steps) => steps <= limits.calls).sort((a, b) => a - b);
    for (const steps of counts) {
      const body = { ...asked, settings: { ...asked.settings, steps } };
      jobs.push({ title: plural(steps, "step") + (steps === own ? ", as above" : ""), body, isOwn: steps === own });
    }
  }
  return jobs;
}

// One after the other, so that none slows another and the seconds can be compared.
async function compare() {
  const { asked } = trace;
  $("beside-go").disabled = true;
  $("beside").replaceChildren();
  const bars = [];
  for (const { title, body, isOwn } of rivals(asked)) {
    const text = element("p", { class: "quiet", dir: "auto" }, "…");
    const cost = element("p", { class: "numbers" });
    const bar = element("i");
    const heading = element("h3", {}, title);
    $("beside").append(element("li", { class: isOwn ? "card own" : "card" }, heading, text, cost,
      element("div", { class: "cost", "aria-hidden": "true" }, bar)));
    try {
      const [answer] = (await (await post("/v1/generate", body)).json()).answers;
      if (trace.asked !== asked) break; // another text has been asked for since
      text.textContent = answer.text || "(empty)";
      text.className = "";
      cost.textContent = `${plural(answer.forwards, "call")}, ${answer.seconds.toFixed(2)} s`;
      bars.push([bar, answer.seconds]);
    } catch (error) {
      text.textContent = error.message;
    }
    const most = Math.max(...bars.map(([, seconds]) => seconds));
    for (const [each, seconds] of bars) each.style.setProperty("--share", `${Math.round(100 * seconds / most)}%`);
  }
  $("beside-go").disabled = false;
}

// ---- the link to a trace: one seed gives one trace, so the fragment holds what was asked and where one looks

function keepLink() {
  const { source, template, settings: chosen } = trace.asked;
  const parts = new URLSearchParams({ source, ...(template ? { template } : {}) });
  for (const [name, value] of Object.entries(chosen)) parts.set(name, value);
  parts.set("frame", trace.at);
  parts.set("candidate", trace.candidate);
  history.replaceState(null, "", `#${parts}`);
}

function followLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (!parts.get("source")) return false;
  $("source").value = parts.get("source");
  $("template").value = parts.get("template") ?? "";
  templateChanged();
  for (const name of Object.keys(DIALS)) setDial(name, parts.get(name) ?? models.main.dials[name]);
  showFittingDials();
  const number = (name) => Math.max(0, Number.parseInt(parts.get(name) ?? "", 10) || 0);
  run(parts.has("frame") ? { frame: number("frame"), candidate: number("candidate") } : null);
  return true;
}

async function copyLink() {
  keepLink();
  try {
    await navigator.clipboard.writeText(location.href);
    $("link").textContent = "Copied";
  } catch {
    $("link").textContent = "It is in the address bar";
  }
  setTimeout(() => { $("link").textContent = "Copy link"; }, 2000);
}

// ---- start

function start() {
  showNothing();
  $("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  $("source").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); run(); }
  });
  $("time").addEventListener("input", (event) => { playing++; show(Number(event.target.value)); });
  $("time").addEventListener("change", () => { if (trace.done) keepLink(); });
  $("play").addEventListener("click", () => play());
  $("link").addEventListener("click", copyLink);
  $("beside-go").addEventListener("click", compare);
  $("template").addEventListener("input", templateChanged);
  $("unpin").addEventListener("click", () => { $("template").value = ""; templateChanged(); run(); });
  // no buttons of the form: Enter in its field is for the first of those
  for (const id of ["pin-cancel", "pin-off"]) $(id).addEventListener("click", () => $("pin").close($(id).value));
  window.addEventListener("hashchange", followLink);
  if (matchMedia("(max-width: 56rem)").matches) $("dials-part").open = $("pins-part").open = false;
  loadModels().then(followLink).catch((error) => problem(error.message));
}

start();
