// What the pages do with a script: live updates, charts, times that go on, shortcuts, theme, copying, suggestions.
// Everything else works without it.

const root = document.documentElement;
const live = document.getElementById("live");
const base = root.dataset.base;
const $ = (selector) => document.querySelector(selector);
root.dataset.script = "on";

// ---- live updates ----------------------------------------------------------------------------------------

const REST = 20; // a page rests so many times as long as it took, so that what is dear is not asked for all the time
let paused = false;
let missed = false;
let began = 0;
let due = 0;

/** Whether somebody is in the middle of something that a new page would take away. */
function busy() {
  const active = document.activeElement;
  const typing = live.contains(active) && active.matches("input, textarea, select");
  return typing || live.querySelector("details.confirm[open], input:checked") !== null || !getSelection().isCollapsed;
}

function refresh() {
  missed = paused || busy() || performance.now() < due;
  if (missed) return;
  began = performance.now();
  due = Infinity;
  htmx.trigger(live, "refresh");
}

$("#stream").addEventListener("changed", refresh);
setInterval(() => { if (missed) refresh(); }, 250);
setInterval(refresh, 10000); // ages grow, even if nothing changes
live.addEventListener("htmx:finally:request", () => { due = performance.now() + REST * (performance.now() - began); });
document.addEventListener("htmx:sse:error", () => { $("#stale").hidden = false; });
document.addEventListener("htmx:sse:after:connection", () => {
  if (!$("#stale").hidden) refresh();
  $("#stale").hidden = true;
});
live.addEventListener("htmx:after:swap", draw);

$("#pause").addEventListener("click", () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  if (!paused) refresh();
});

// ---- charts: what stands in the table is drawn ------------------------------------------------------------

const COLOURS = {
  enqueued: "--quiet", succeeded: "--good", failed: "--warn", dead: "--bad", cancelled: "--quiet", expired: "--odd", lost: "--odd",
};
const DASHES = { enqueued: [2, 4], failed: [8, 4], dead: [2, 2], cancelled: [12, 3, 2, 3], expired: [4, 4], lost: [1, 3] };
const plots = new Map();

function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** What stands below the chart: times of day, or days where steps are that long. */
function clock(plot, splits, axis, space, step) {
  const form = step < 86400 ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : { month: "short", day: "numeric" };
  const shown = new Intl.DateTimeFormat(undefined, form);
  return splits.map((at) => shown.format(at * 1000));
}

function table(figure) {
  const names = [...figure.querySelectorAll("thead th")].slice(1).map((cell) => cell.textContent);
  const rows = [...figure.querySelectorAll("tbody tr")].filter((row) => row.querySelector("time"));
  const times = rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000);
  const columns = names.map((_, n) => rows.map((row) => Number(row.querySelectorAll("td")[n].textContent)));
  return { names, data: [times, ...columns] };
}

function draw() {
  for (const [figure, plot] of plots) if (!figure.isConnected) { plot.destroy(); plots.delete(figure); }
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const { names, data } = table(figure);
    const place = figure.querySelector(".plot");
    if (!place.childElementCount) { plots.get(figure)?.destroy(); plots.delete(figure); }
    if (plots.has(figure)) { plots.get(figure).setData(data); continue; }
    const ink = colour("--faint");
    const grid = { stroke: colour("--line"), width: 1 };
    const follow = (plot) => plot.over.addEventListener("click", () => {
      const links = figure.querySelectorAll("tbody tr a");
      if (plot.cursor.idx !== null && links[plot.cursor.idx]) location.assign(links[plot.cursor.idx].href);
    });
    plots.set(figure, new uPlot({
      hooks: { ready: [follow] },
      width: Math.max(place.clientWidth, 200),
      height: 220,
      cursor: { drag: { x: false } },
      axes: [{ stroke: ink, grid, values: clock }, { stroke: ink, grid, size: 56 }],
      series: [{}, ...names.map((label) => ({
        label, stroke: colour(COLOURS[label] ?? "--ink"), dash: DASHES[label], width: 2, points: { show: false },
      }))],
    }, data, place));
  }
}

function redraw() {
  for (const [figure, plot] of plots) { plot.destroy(); plots.delete(figure); }
  draw();
}

let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(redraw, 200); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// ---- times that go on ------------------------------------------------------------------------------------

/** As `span` of the command line: `4.2 s`, `3 m 5 s`, `2 d 4 h`. */
function span(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]].filter(([, unit]) => seconds >= unit);
  const second = units.length > 1 ? Math.floor((seconds % units[0][1]) / units[1][1]) : 0;
  return `${Math.floor(seconds / units[0][1])} ${units[0][0]}` + (second ? ` ${second} ${units[1][0]}` : "");
}

setInterval(() => {
  if (document.hidden || paused) return;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const passed = (Date.now() - Date.parse(time.dateTime)) / 1000;
    time.textContent = passed >= 0 ? `${span(passed)} ago` : `in ${span(-passed)}`;
  }
}, 1000);

// ---- theme, copying, shortcuts -----------------------------------------------------------------------------

const themes = ["auto", "light", "dark"];
$("#theme").addEventListener("click", (event) => {
  const theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
  root.dataset.theme = theme;
  event.target.textContent = `Theme: ${theme}`;
  document.cookie = `eventmq_theme=${theme};path=${base || "/"};max-age=31536000;samesite=strict`;
  redraw();
});

/** Also over plain HTTP, where browsers have no clipboard for scripts. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const what = button.dataset.copy;
  await copy(what.startsWith("#") ? $(what).textContent : what);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});

const help = $("#help");
$("#keys").addEventListener("click", () => help.showModal());
let going = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select") || help.open) return;
  const page = Date.now() - going < 1500 && $(`#pages [data-key="${CSS.escape(event.key)}"]`);
  going = event.key === "g" ? Date.now() : 0;
  if (page) location.assign(page.href);
  else if (event.key === "?") help.showModal();
  else if (event.key === "p") $("#pause").click();
  else if (event.key === "/") {
    event.preventDefault();
    if ($("#q")) $("#q").focus();
    else location.assign(`${base}/jobs#q`);
  }
});

// ---- suggestions for the query box -------------------------------------------------------------------------

const query = $("#query");
if (query) {
  const words = JSON.parse(query.dataset.words);
  const suggest = () => {
    const text = $("#q").value;
    const before = text.slice(0, text.lastIndexOf(" ") + 1);
    const last = text.slice(before.length);
    const [word, value] = last.split(":", 2);
    const known = value === undefined ? Object.keys(words).map((each) => `${each}:`) : (words[word] ?? []).map((each) => `${word}:${each}`);
    const options = known.filter((each) => each.startsWith(last) && each !== last).slice(0, 20);
    $("#suggestions").replaceChildren(...options.map((each) => Object.assign(document.createElement("option"), { value: before + each })));
  };
  $("#q").addEventListener("input", suggest);
  $("#q").addEventListener("focus", suggest);
  if (location.hash === "#q") $("#q").focus();
}

draw();
