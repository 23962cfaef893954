"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { names, photos, opinions, audit, digest } = data;
  const count = photos.id.length;
  const byId = new Map(photos.id.map((id, i) => [id, i]));
  const $ = (id) => document.getElementById(id);
  const small = matchMedia("(max-width: 760px)");
  const SUSPICIOUS = new Set(["relabel", "drop", "look"]);
  const HISTORY = 1000;

  /* Build an element; texts from the data only ever become text nodes or properties. */
  function el(tag, about = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(about)) {
      if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const percent = (p) => (p === null ? "–" : `${Math.round(100 * p)} %`);
  const suspicious = (i) => SUSPICIOUS.has(photos.verdict[i]);
  const given = (i) => names[photos.given[i]];
  const suggested = (i) => names[photos.suggested[i]];
  const differs = (i) => !audit && photos.suggested[i] !== photos.given[i];
  const votes = (i) => photos.votes[i].filter((v) => v !== null);
  const disagree = (i) => new Set(votes(i).map((v) => v >= 0.5)).size > 1;

  function picture(i, alt) {
    const source = photos.thumb[i];
    if (!source) return el("span", { className: "frame" }, "no picture");
    const image = el("img", { src: source, alt, decoding: "async", draggable: false });
    return el("span", { className: "frame" }, image);
  }

  /* Decisions: id -> [decision, label]. Kept in the browser under the digest of the list. */
  const KEY = `noisyctl ${audit ? "audit" : "review"} ${digest}`;
  const decisions = new Map();
  let history = [];
  let kept = true;

  function sound(said) {
    if (!Array.isArray(said) || said.length !== 2) return false;
    if (said[0] === "drop") return said[1] === "";
    return (said[0] === "keep" || said[0] === "relabel") && names.includes(said[1]);
  }

  function load() {
    decisions.clear();
    history = [];
    let stored = null;
    try {
      stored = JSON.parse(localStorage.getItem(KEY));
    } catch { kept = storable(); }
    if (!stored || typeof stored !== "object") return;
    for (const [id, said] of Object.entries(stored.decisions || {})) {
      if (byId.has(id) && sound(said)) decisions.set(id, said);
    }
    const undoable = ([id, before]) => byId.has(id) && (before === null || sound(before));
    if (Array.isArray(stored.history)) history = stored.history.filter((one) => Array.isArray(one) && undoable(one));
  }

  function storable() {
    try {
      localStorage.setItem("noisyctl", "1");
      localStorage.removeItem("noisyctl");
      return true;
    } catch { return false; }
  }

  function save() {
    history = history.slice(-HISTORY);
    try {
      localStorage.setItem(KEY, JSON.stringify({ decisions: Object.fromEntries(decisions), history }));
      kept = true;
    } catch { kept = false; }
    $("storage").hidden = kept;
  }

  function put(i, said) {
    const id = photos.id[i];
    if (said) decisions.set(id, said); else decisions.delete(id);
  }

  function say(text) { $("said").textContent = text; }

  function decide(i, decision, label) {
    if (i === null) return;
    if (decision === "relabel" && label === given(i)) decision = "keep";
    const said = [decision, label];
    history.push([photos.id[i], decisions.get(photos.id[i]) || null]);
    put(i, said);
    save();
    say(`${photos.path[i] || photos.id[i]}: ${sentence(said)}.`);
    refresh();
  }

  function sentence([decision, label]) {
    if (decision === "drop") return "dropped";
    return decision === "keep" ? `keeps ${label}` : `is now ${label}`;
  }

  function undo() {
    const last = history.pop();
    if (!last) { say("Nothing to undo."); return; }
    const i = byId.get(last[0]);
    put(i, last[1]);
    save();
    say(`Undone: ${photos.path[i] || photos.id[i]}${last[1] ? ` ${sentence(last[1])}` : " is not decided"}.`);
    refresh();
    if (document.body.dataset.view === "review") choose(i);
  }

  /* The filtered list, and the photo that is chosen in it. */
  let shown = [];
  let place = new Map();
  let chosen = null;
  const FILTERS = ["text", "verdict", "given", "suggested", "opinions", "decided"];

  function filter() {
    const want = Object.fromEntries(FILTERS.map((id) => [id, $(id) ? $(id).value : ""]));
    const words = want.text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    shown = [];
    for (let i = 0; i < count; i++) {
      if (want.verdict === "suspicious" ? !suspicious(i) : want.verdict && photos.verdict[i] !== want.verdict) continue;
      if (want.given !== "" && photos.given[i] !== Number(want.given)) continue;
      if (want.suggested !== "" && photos.suggested[i] !== Number(want.suggested)) continue;
      if (want.opinions && disagree(i) !== (want.opinions === "disagree")) continue;
      if (want.decided && decisions.has(photos.id[i]) !== (want.decided === "yes")) continue;
      if (words.length) {
        const text = `${photos.path[i]}\n${photos.id[i]}\n${given(i)}\n${audit ? "" : suggested(i)}`.toLocaleLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
      }
      shown.push(i);
    }
    place = new Map(shown.map((i, at) => [i, at]));
    $("matches").textContent = shown.length === count ? `${count.toLocaleString("en")} photos` : `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")}`;
    $("clear").hidden = !FILTERS.some((id) => want[id]);
    $("nothing").hidden = shown.length > 0;
    $("gallery").hidden = shown.length === 0;
    if (!place.has(chosen)) chosen = shown.length ? shown[0] : null;
    $("gallery").scrollTop = 0;
    drawn.forEach((tile) => tile.remove());
    drawn.clear();
    layout();
    refresh();
  }

  function choose(i, { open = false } = {}) {
    if (i === null || i === undefined) return;
    if (!place.has(i)) { // hidden by a filter: show it all the same
      FILTERS.forEach((id) => { if ($(id)) $(id).value = ""; });
      chosen = i;
      filter();
    }
    chosen = i;
    if (open && small.matches) document.body.classList.add("open");
    reveal();
    refresh();
  }

  function move(step) {
    const at = place.get(chosen);
    if (at === undefined) return;
    choose(shown[Math.max(0, Math.min(shown.length - 1, at + step))]);
  }

  /* After a decision: the next photo that is not decided, or else the next one. */
  function advance() {
    const at = place.get(chosen);
    if (at === undefined) return;
    const after = shown.slice(at + 1);
    const next = after.find((i) => !decisions.has(photos.id[i]));
    if (next !== undefined) choose(next);
    else if (after.length) choose(after[0]);
    else say("That was the last photo of the list.");
  }

  /* The gallery: only the tiles near the visible part exist. */
  const drawn = new Map();
  const grid = { columns: 1, width: 160, height: 206, gap: 10 };

  function layout() {
    const style = getComputedStyle($("gallery"));
    const width = $("gallery").clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const least = small.matches ? 100 : 150;
    grid.columns = Math.max(1, Math.floor((width + grid.gap) / (least + grid.gap)));
    grid.width = Math.floor((width - grid.gap * (grid.columns - 1)) / grid.columns);
    grid.height = grid.width + 44;
    $("spacer").style.height = `${Math.ceil(shown.length / grid.columns) * (grid.height + grid.gap)}px`;
    drawn.forEach((tile, at) => set(tile, at));
    draw();
  }

  function set(tile, at) {
    tile.style.width = `${grid.width}px`;
    tile.style.height = `${grid.height}px`;
    tile.style.left = `${(at % grid.columns) * (grid.width + grid.gap)}px`;
    tile.style.top = `${Math.floor(at / grid.columns) * (grid.height + grid.gap)}px`;
  }

  function draw() {
    const gallery = $("gallery");
    const step = grid.height + grid.gap;
    const first = Math.max(0, Math.floor(gallery.scrollTop / step) - 1) * grid.columns;
    const last = Math.min(shown.length, (Math.ceil((gallery.scrollTop + gallery.clientHeight) / step) + 1) * grid.columns);
    for (const [at, tile] of drawn) {
      if (at < first || at >= last) { tile.remove(); drawn.delete(at); }
    }
    const fresh = [];
    for (let at = first; at < last; at++) {
      if (drawn.has(at)) continue;
      const made = tile(shown[at], at);
      drawn.set(at, made);
      fresh.push(made);
    }
    $("spacer").append(...fresh);
    gallery.setAttribute("aria-activedescendant", place.has(chosen) && drawn.has(place.get(chosen)) ? `photo-${chosen}` : "");
  }

  function tile(i, at) {
    const labels = el("div", { className: "labels" });
    labels.append(el("div", { className: differs(i) ? "was" : "" }, given(i)));
    if (differs(i)) labels.append(el("div", {}, `→ ${suggested(i)}`));
    const made = el("div", { className: "tile", id: `photo-${i}`, role: "option" }, picture(i, ""), labels, el("span", { className: "mark" }));
    made.setAttribute("aria-setsize", shown.length);
    made.setAttribute("aria-posinset", at + 1);
    made.addEventListener("click", () => { choose(i, { open: true }); });
    set(made, at);
    dress(made, i);
    return made;
  }

  function dress(made, i) {
    const said = decisions.get(photos.id[i]);
    const mark = made.lastElementChild;
    made.className = `tile ${said ? said[0] : ""}`;
    mark.hidden = !said;
    mark.textContent = said ? (said[0] === "drop" ? "dropped" : said[0] === "keep" ? "kept" : `→ ${said[1]}`) : "";
    made.setAttribute("aria-selected", i === chosen);
    const about = differs(i) ? `, suggested ${suggested(i)}` : "";
    made.setAttribute("aria-label", `${photos.path[i] || photos.id[i]}: ${given(i)}${about}${said ? `; ${sentence(said)}` : ""}`);
  }

  function reveal() {
    const at = place.get(chosen);
    if (at === undefined) return;
    const gallery = $("gallery");
    const step = grid.height + grid.gap;
    const top = Math.floor(at / grid.columns) * step;
    if (top < gallery.scrollTop) gallery.scrollTop = Math.max(0, top - 4);
    else if (top + step > gallery.scrollTop + gallery.clientHeight) gallery.scrollTop = top + step - gallery.clientHeight + 4;
    draw();
  }

  /* The photo that is chosen. */
  let detailed = null;

  function detail() {
    const i = chosen;
    const none = i === null;
    for (const id of ["accept", "keep", "other", "drop", "previous", "next"]) if ($(id)) $(id).disabled = none;
    $("undo").disabled = history.length === 0;
    if (none) { $("about").replaceChildren(el("p", { className: "empty" }, "No photo is chosen.")); detailed = null; return; }
    if ($("accept")) {
      $("accept").disabled = !differs(i);
      $("accept-text").textContent = differs(i) ? `Relabel to ${suggested(i)}` : "No other label is suggested";
    }
    $("keep-text").textContent = audit ? "Right" : "Keep";
    $("keep").title = `The label ${given(i)} is right`;
    const said = decisions.get(photos.id[i]);
    const key = JSON.stringify([i, said]);
    if (detailed === key) return;
    const scroll = detailed !== null && JSON.parse(detailed)[0] === i ? $("about").scrollTop : 0;
    detailed = key;
    $("about").replaceChildren(...about(i, said));
    $("about").scrollTop = scroll;
  }

  function about(i, said) {
    const big = el("div", { className: "big" });
    if (photos.thumb[i]) {
      const image = el("img", { src: photos.thumb[i], alt: `The photo ${photos.path[i] || photos.id[i]}` });
      big.append(image);
      sharpen(image, i);
    } else big.append("no picture");
    const change = el("div", { className: "change" });
    if (differs(i)) change.append(el("span", { className: "was" }, given(i)), el("span", { className: "was" }, "→"), suggested(i));
    else change.append(given(i));
    const rank = audit ? "" : `rank ${photos.rank[i].toLocaleString("en")} · ${photos.verdict[i]}${photos.group[i] ? ` · group ${photos.group[i]}` : ""} · `;
    const parts = [big, change, el("p", { className: "where" }, `${rank}${photos.path[i] || photos.id[i]}`)];
    if (said) parts.push(el("p", { className: "state" }, `Your decision: ${said[0] === "drop" ? "drop it" : said[0] === "keep" ? `keep ${said[1]}` : `relabel to ${said[1]}`}`));
    if (!audit) parts.push(facts(i), ...near(i));
    return parts;
  }

  /* The photo itself instead of its thumbnail, where it lies beside the report. */
  function sharpen(image, i) {
    if (data.originals === null || !photos.path[i]) return;
    const whole = new Image();
    whole.onload = () => { image.src = whole.src; };
    whole.src = data.originals + photos.path[i].split("/").map(encodeURIComponent).join("/");
  }

  function facts(i) {
    const made = el("div", { className: "facts" });
    made.append(el("span", { className: "head" }, `Probability that “${given(i)}” is right`));
    const row = (name, p) => {
      const fill = el("i");
      fill.style.width = `${100 * (p || 0)}%`;
      made.append(el("span", { className: "name" }, name), el("span", { className: "bar", ariaHidden: "true" }, fill), el("span", { className: "value" }, percent(p)));
    };
    row("together", photos.p[i]);
    opinions.forEach((name, k) => row(name.replaceAll("_", " "), photos.votes[i][k]));
    return made;
  }

  function near(i) {
    if (!photos.near[i].length) return [];
    const list = el("ul");
    for (const one of photos.near[i]) {
      const [j, label] = Array.isArray(one) ? [null, one[1]] : [one, given(one)];
      const picture_ = j === null ? el("span", { className: "frame" }, "…") : picture(j, "");
      const button = el("button", { type: "button", title: j === null ? "Not in this report" : photos.path[j], disabled: j === null, className: label === given(i) ? "same" : "" }, picture_, el("span", {}, label));
      if (j !== null) button.addEventListener("click", () => { choose(j); $("detail").focus({ preventScroll: true }); });
      list.append(el("li", {}, button));
    }
    return [el("div", { className: "near" }, el("h3", {}, "Most similar photos and their labels"), list)];
  }

  function refresh() {
    drawn.forEach((tile, at) => dress(tile, shown[at]));
    const toDo = audit ? count : data.suspicious;
    const looked = audit ? decisions.size : photos.id.filter((id, i) => suspicious(i) && decisions.has(id)).length;
    const others = decisions.size - looked;
    $("progress").textContent = `${looked} of ${toDo}${others ? ` + ${others}` : ""} decided`;
    $("download").disabled = decisions.size === 0;
    detail();
    dressGroups();
  }

  /* Copies of one photo, side by side. */
  const groups = data.groups;
  let groupsShown = 0;

  function dressGroups() {
    document.querySelectorAll("[data-copy]").forEach((label) => {
      const said = decisions.get(photos.id[Number(label.dataset.copy)]);
      label.textContent = said ? sentence(said) : "not decided";
    });
  }

  function moreGroups() {
    for (const group of groups.slice(groupsShown, groupsShown + 30)) {
      const list = el("ul");
      const labels = [...new Set(group.map(given))];
      for (const i of group) {
        const state = el("small");
        state.dataset.copy = i;
        const button = el("button", { type: "button", title: photos.path[i] }, picture(i, ""), el("strong", {}, given(i)), el("small", {}, photos.path[i]), state);
        button.addEventListener("click", () => { go("review"); choose(i, { open: true }); });
        list.append(el("li", {}, button));
      }
      const made = el("div", { className: "group" }, list);
      if (labels.length > 1) {
        const all = el("div", { className: "all", role: "group" }, el("span", { className: "hint" }, "All of them are"));
        all.setAttribute("aria-label", "Decide for all copies");
        for (const label of labels) {
          const button = el("button", { type: "button" }, label);
          button.addEventListener("click", () => group.forEach((i) => decide(i, "relabel", label)));
          all.append(button);
        }
        made.append(all);
      }
      $("groups").append(made);
    }
    groupsShown += 30;
    $("more").hidden = groupsShown >= groups.length;
    dressGroups();
  }

  /* decisions.csv, in the order of the ranks. Texts that a spreadsheet would compute get an apostrophe in front. */
  const FORMULA = /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
  const NUMBER = /^[+-]?(\p{Nd}+\.?\p{Nd}*|\.\p{Nd}+)([eE][+-]?\p{Nd}+)?( \u00b1 \p{Nd}+\.?\p{Nd}*)?$/u;

  function cell(text) {
    if (FORMULA.test(text) && !NUMBER.test(text) && text !== "-") text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function table() {
    const rows = [["id", "path", "given", "decision", "label", "result"]];
    for (let i = 0; i < count; i++) {
      const said = decisions.get(photos.id[i]);
      if (said) rows.push([photos.id[i], photos.path[i], given(i), said[0], said[1], digest]);
    }
    return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  }

  function download() {
    const file = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
    el("a", { href: file, download: data.file }).click();
    setTimeout(() => URL.revokeObjectURL(file), 10000);
    say(`${decisions.size} decisions saved as ${data.file}.`);
  }

  /* Another class. */
  const MOST_CLASSES = 100;
  let offered = [];
  let picked = 0;

  function offer() {
    const text = $("class-text").value.trim().toLocaleLowerCase();
    const fits = names.slice(0, data.classes).filter((name) => name.toLocaleLowerCase().includes(text));
    const starts = fits.filter((name) => name.toLocaleLowerCase().startsWith(text));
    offered = [...starts, ...fits.filter((name) => !starts.includes(name))].slice(0, MOST_CLASSES);
    picked = 0;
    $("class-list").replaceChildren(...offered.map((name, k) => {
      const item = el("li", { id: `class-${k}`, role: "option" }, name);
      item.addEventListener("click", () => take(k));
      return item;
    }));
    if (!offered.length) $("class-list").append(el("li", {}, "No class has this name."));
    pick(0);
  }

  function pick(k) {
    picked = Math.max(0, Math.min(offered.length - 1, k));
    [...$("class-list").children].forEach((item, at) => {
      item.setAttribute("aria-selected", offered.length > 0 && at === picked);
      if (at === picked) item.scrollIntoView({ block: "nearest" });
    });
    $("class-text").setAttribute("aria-activedescendant", offered.length ? `class-${picked}` : "");
  }

  function take(k) {
    if (!offered.length) return;
    $("classes").close();
    decide(chosen, "relabel", offered[k]);
    advance();
  }

  function otherClass() {
    if (chosen === null) return;
    $("class-text").value = "";
    $("classes").showModal();
    offer();
    $("class-text").focus();
  }

  /* Views, buttons and keys. */
  function go(view) {
    document.body.dataset.view = view;
    document.body.classList.remove("open");
    document.querySelectorAll("nav [data-go]").forEach((button) => {
      if (button.dataset.go === view) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    });
    if (view === "duplicates" && groupsShown === 0) moreGroups();
    if (view === "review") {
      document.documentElement.style.setProperty("--top", `${document.querySelector(".top").offsetHeight}px`);
      layout();
      reveal();
      $("gallery").focus({ preventScroll: true });
    } else scrollTo(0, 0);
  }

  function only(wanted) {
    FILTERS.forEach((id) => { if ($(id)) $(id).value = wanted[id] === undefined ? "" : wanted[id]; });
    chosen = null;
    go("review");
    filter();
  }

  const acts = {
    accept: () => { if ($("accept") && chosen !== null && differs(chosen)) { decide(chosen, "relabel", suggested(chosen)); advance(); } },
    keep: () => { if (chosen !== null) { decide(chosen, "keep", given(chosen)); advance(); } },
    drop: () => { if (chosen !== null) { decide(chosen, "drop", ""); advance(); } },
    other: otherClass,
    undo,
    next: () => move(1),
    previous: () => move(-1),
  };
  const KEYS = { a: "accept", k: "keep", d: "drop", c: "other", u: "undo", n: "next", j: "next", p: "previous" };

  for (const [id, act] of Object.entries(acts)) if ($(id)) $(id).addEventListener("click", act);
  document.querySelectorAll("[data-go]").forEach((button) => button.addEventListener("click", () => go(button.dataset.go)));
  document.querySelectorAll("[data-start]").forEach((button) => button.addEventListener("click", () => only({ verdict: "suspicious" })));
  document.querySelectorAll("[data-verdict]").forEach((button) => button.addEventListener("click", () => only({ verdict: button.dataset.verdict })));
  document.querySelectorAll("[data-given]").forEach((button) => button.addEventListener("click", () => {
    only({ given: button.dataset.given, suggested: button.dataset.suggested, verdict: button.dataset.suggested === undefined ? "" : "suspicious" });
  }));
  FILTERS.forEach((id) => { if ($(id)) $(id).addEventListener("input", filter); });
  $("clear").addEventListener("click", () => only({}));
  $("download").addEventListener("click", download);
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("back").addEventListener("click", () => { document.body.classList.remove("open"); $("gallery").focus(); });
  $("class-cancel").addEventListener("click", () => $("classes").close());
  $("class-text").addEventListener("input", offer);
  if ($("more")) $("more").addEventListener("click", moreGroups);
  let waiting = false;
  $("gallery").addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }, { passive: true });
  new ResizeObserver(() => { if (document.body.dataset.view === "review") layout(); }).observe($("gallery"));
  addEventListener("resize", () => document.documentElement.style.setProperty("--top", `${document.querySelector(".top").offsetHeight}px`));
  addEventListener("storage", (event) => { if (event.key === KEY) { load(); refresh(); } });

  $("classes").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") pick(picked + 1);
    else if (event.key === "ArrowUp") pick(picked - 1);
    else if (event.key === "Enter" && event.target !== $("class-cancel")) take(picked);
    else return;
    event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (typing) {
      if (event.key === "Escape") $("gallery").focus();
      return;
    }
    const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey;
    if (undoing) { undo(); event.preventDefault(); return; }
    if (event.ctrlKey || event.metaKey) return;
    if ($("shortcuts").checked && event.key === "?") { $("help").showModal(); event.preventDefault(); return; }
    if (document.body.dataset.view !== "review") return;
    if (event.key === "Escape" && document.body.classList.contains("open")) $("back").click();
    else if (event.key === "/" && $("shortcuts").checked) $("text").focus();
    else if (event.key in KEYS && $("shortcuts").checked) acts[KEYS[event.key]]();
    else if (event.key.startsWith("Arrow") && event.target.closest("#gallery, #detail, body") && !event.target.closest(".scroll")) {
      move({ ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns }[event.key]);
    } else if (event.target === $("gallery") && event.key === "Home") choose(shown[0]);
    else if (event.target === $("gallery") && event.key === "End") choose(shown[shown.length - 1]);
    else if (event.target === $("gallery") && (event.key === "PageDown" || event.key === "PageUp")) {
      const rows = Math.max(1, Math.floor($("gallery").clientHeight / (grid.height + grid.gap)));
      move((event.key === "PageDown" ? rows : -rows) * grid.columns);
    } else if (event.target === $("gallery") && event.key === "Enter") {
      choose(chosen, { open: true });
      $("detail").focus({ preventScroll: true });
    } else return;
    event.preventDefault();
  });

  load();
  $("storage").hidden = storable();
  filter();
  go(audit ? "review" : "overview");
})();
