"use strict";
// The map and table of the pool. Points are painted into an image by hand: 130,000 of them take some 30 ms that way, on
// machines without a graphics card too (docs/report.md has the measurements).
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    if (view) draw();
  });
  // Everything is printed, also what is folded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
    if (view) draw();
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  const NONE = 255, MARGIN = { left: 52, right: 12, top: 12, bottom: 40 }, CELL = 10, PAGE = 50;
  let view = null, pool = 0, visible = new Int32Array(0), box = null, cells = null, current = -1, listed = 0;
  if (!$("map")) return;
  const canvas = $("map"), paper = canvas.getContext("2d");

  function bytes(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const signs = atob(text), found = new Uint8Array(signs.length);
    for (let place = 0; place < signs.length; place++) found[place] = signs.charCodeAt(place);
    return found;
  }
  const words = (text) => new Uint16Array(bytes(text).buffer);
  async function unpack(number) {
    const stream = new Blob([bytes($(`data-${number}`).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const data = JSON.parse(await new Response(stream).text());
    data.ids = data.ids.split("\n"); data.texts = data.texts.split("\n");
    data.prompt = bytes(data.prompt); data.domain = bytes(data.domain);
    data.probs = data.probs && words(data.probs);
    for (const axes of data.axes) { axes.x = words(axes.x); axes.y = words(axes.y); }
    for (const one of data.selections) {
      const bits = bytes(one.kept);
      one.has = (row) => (bits[row >> 3] >> (row & 7)) & 1;
    }
    const width = data.labels.length;
    data.classes = new Uint8Array(data.rows).fill(NONE);
    if (data.probs) for (let row = 0; row < data.rows; row++) {
      let best = 0;
      for (let c = 1; c < width; c++) if (data.probs[row * width + c] > data.probs[row * width + best]) best = c;
      data.classes[row] = best;
    }
    // Rows are painted in a fixed random order, so that no class lies on top of the others.
    data.order = new Int32Array(data.rows).map((_, row) => row);
    let state = 1;
    for (let row = data.rows - 1; row > 0; row--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const other = state % (row + 1), kept = data.order[row];
      data.order[row] = data.order[other]; data.order[other] = kept;
    }
    return data;
  }

  const options = (select, pairs) => { select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value))); };
  async function open(number) {
    $("count").textContent = "Reading the rows …";
    view = await unpack(number);
    pool = number;
    const named = (names, all) => [["", all], ...names.map((name, place) => [place, name])];
    options($("f-axes"), view.axes.map((axes, place) => [place, axes.name]));
    const colours = [];
    if (view.probs) colours.push(["classes", "teacher's class"]);
    colours.push(["prompt", "prompt label"]);
    if (view.probs) colours.push(["agree", "agreement"]);
    if (view.domains.length) colours.push(["domain", "domain"]);
    if (view.selections.length) colours.push(["kept", "kept or not"]);
    options($("f-colour"), colours);
    options($("f-class"), named(view.labels, "all classes"));
    options($("f-prompt"), named(view.labels, "all labels"));
    options($("f-domain"), named(view.domains, "all domains"));
    const strategies = view.selections.map((one, place) => [place, one.name]);
    options($("f-kept"), [["", "any or none"], ["any", "any selection"], ["none", "no selection"], ...strategies]);
    options($("f-other"), [["", "–"], ...strategies]);
    current = -1; box = null;
    $("said").textContent = "No row is open.";
    filter();
  }

  function filter() {
    const value = (id) => $(id).value;
    const number = (id) => (value(id) === "" ? -1 : Number(value(id)));
    const klass = number("f-class"), prompt = number("f-prompt"), domain = number("f-domain");
    const agree = value("f-agree"), kept = value("f-kept"), other = value("f-other");
    const text = value("f-text").trim().toLowerCase();
    if (text && !view.search) view.search = view.texts.map((one, row) => `${one}\n${view.ids[row]}`.toLowerCase());
    const one = view.selections[kept], two = view.selections[other];
    const found = [];
    for (const row of view.order) {
      if (klass >= 0 && view.classes[row] !== klass) continue;
      if (prompt >= 0 && view.prompt[row] !== prompt) continue;
      if (domain >= 0 && view.domain[row] !== domain) continue;
      if (agree !== "" && (view.classes[row] === NONE || view.prompt[row] === NONE)) continue;
      if (agree !== "" && (view.classes[row] === view.prompt[row]) !== (agree === "1")) continue;
      if (one && two ? one.has(row) === two.has(row) : one && !one.has(row)) continue;
      if ((kept === "any" || kept === "none") && view.selections.some((s) => s.has(row)) !== (kept === "any")) continue;
      if (text && !view.search[row].includes(text)) continue;
      found.push(row);
    }
    visible = Int32Array.from(found);
    const differ = one && two ? ` that one of ${one.name} and ${two.name} kept and the other did not` : "";
    $("count").textContent = `${visible.length.toLocaleString("en")} of ${view.rows.toLocaleString("en")} rows${differ}`;
    draw(); list(true);
  }

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  function palette() {
    const kind = $("f-colour").value, shades = [0, 1, 2, 3, 4, 5, 6, 7].map((c) => css(`--c${c}`)), grey = css("--line");
    const one = view.selections[$("f-kept").value], two = view.selections[$("f-other").value];
    const cycle = (numbers, names) => ({ of: (row) => (numbers[row] === NONE ? -1 : numbers[row]), names });
    const kinds = {
      classes: () => cycle(view.classes, view.labels),
      prompt: () => cycle(view.prompt, view.labels),
      domain: () => cycle(view.domain, view.domains),
      agree: () => ({
        of: (row) => (view.prompt[row] === NONE ? -1 : view.prompt[row] === view.classes[row] ? 0 : 4),
        names: { 0: "teacher agrees with prompt", 4: "disagrees" },
      }),
      kept: () => one && two
        ? { of: (row) => (one.has(row) ? 0 : 1), names: { 0: `${one.name} only`, 1: `${two.name} only` } }
        : { of: (row) => (view.selections.some((s) => s.has(row)) ? 0 : -1), names: { 0: "kept by a selection" } },
    };
    const found = (kinds[$("f-colour").value] || kinds.prompt)();
    return { of: found.of, names: Object.entries(found.names), shade: (c) => (c < 0 ? grey : shades[c % 8]), kind };
  }
  const rgb = (colour) => {
    paper.fillStyle = colour;
    const hex = parseInt(paper.fillStyle.slice(1), 16);
    return [hex >> 16, (hex >> 8) & 255, hex & 255];
  };

  const axes = () => view.axes[$("f-axes").value];
  function place() {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!box) box = { x0: -0.02, x1: 1.02, y0: -0.02, y1: 1.02 };
    const w = width - MARGIN.left - MARGIN.right, h = height - MARGIN.top - MARGIN.bottom, found = axes();
    return {
      width, height, w, h,
      x: (row) => MARGIN.left + ((found.x[row] / 65535 - box.x0) / (box.x1 - box.x0)) * w,
      y: (row) => MARGIN.top + (1 - (found.y[row] / 65535 - box.y0) / (box.y1 - box.y0)) * h,
    };
  }

  function draw() {
    cells = null;
    if (!axes() || !canvas.clientWidth) return;
    const at = place(), ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(at.width * ratio); canvas.height = Math.round(at.height * ratio);
    const colours = palette(), shades = new Map();
    const pixels = paper.createImageData(canvas.width, canvas.height), data = pixels.data;
    const size = Math.max(1, Math.round((visible.length > 20000 ? 1.5 : visible.length > 2000 ? 2.5 : 4) * ratio));
    const half = size >> 1, right = (at.width - MARGIN.right) * ratio, bottom = (at.height - MARGIN.bottom) * ratio;
    for (const row of visible) {
      const x = Math.round(at.x(row) * ratio) - half, y = Math.round(at.y(row) * ratio) - half;
      if (x < MARGIN.left * ratio || y < MARGIN.top * ratio || x + size > right || y + size > bottom) continue;
      const c = colours.of(row);
      let shade = shades.get(c);
      if (!shade) shades.set(c, (shade = rgb(colours.shade(c))));
      for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
        const p = ((y + j) * canvas.width + x + i) * 4, over = data[p + 3] ? 0.6 : 1;
        data[p] += (shade[0] - data[p]) * over; data[p + 1] += (shade[1] - data[p + 1]) * over;
        data[p + 2] += (shade[2] - data[p + 2]) * over; data[p + 3] = 255;
      }
    }
    paper.putImageData(pixels, 0, 0);
    paper.setTransform(ratio, 0, 0, ratio, 0, 0);
    scale(at);
    if (current >= 0) mark(at);
    $("legend").replaceChildren(...colours.names.map(([c, name]) => {
      const entry = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = colours.shade(Number(c));
      entry.append(dot, name);
      return entry;
    }));
  }

  function scale(at) {
    const found = axes();
    paper.fillStyle = paper.strokeStyle = css("--soft"); paper.font = "12px system-ui, sans-serif";
    const ticks = (low, high) => {
      const step = 10 ** Math.floor(Math.log10((high - low) / 2)), fit = [1, 2, 5].map((k) => k * step).find((s) => (high - low) / s <= 7) || step;
      const list = [];
      for (let tick = Math.ceil(low / fit) * fit; tick <= high; tick += fit) list.push(Number(tick.toPrecision(6)));
      return list;
    };
    const [fx0, fx1] = found.x_range, [fy0, fy1] = found.y_range;
    const range = (low, high, a, b) => [low + a * (high - low), low + b * (high - low)];
    const [x0, x1] = range(fx0, fx1, box.x0, box.x1), [y0, y1] = range(fy0, fy1, box.y0, box.y1);
    paper.textAlign = "center";
    for (const tick of ticks(x0, x1)) paper.fillText(tick, MARGIN.left + ((tick - x0) / (x1 - x0)) * at.w, at.height - MARGIN.bottom + 16);
    paper.fillText(found.x_label, MARGIN.left + at.w / 2, at.height - 6);
    paper.textAlign = "right";
    for (const tick of ticks(y0, y1)) paper.fillText(tick, MARGIN.left - 6, MARGIN.top + (1 - (tick - y0) / (y1 - y0)) * at.h + 4);
    paper.save(); paper.translate(13, MARGIN.top + at.h / 2); paper.rotate(-Math.PI / 2); paper.textAlign = "center";
    paper.fillText(found.y_label, 0, 0); paper.restore();
    paper.strokeStyle = css("--line"); paper.strokeRect(MARGIN.left, MARGIN.top, at.w, at.h);
  }
  function mark(at) {
    paper.strokeStyle = css("--ink"); paper.lineWidth = 2;
    paper.beginPath(); paper.arc(at.x(current), at.y(current), 7, 0, 7); paper.stroke(); paper.lineWidth = 1;
  }

  // A grid of cells over the drawn rows, by counting, so that pointing looks at a few rows only.
  function index() {
    const at = place(), wide = Math.ceil(at.width / CELL) + 1, high = Math.ceil(at.height / CELL) + 1;
    const where = new Int32Array(visible.length), starts = new Int32Array(wide * high + 1);
    visible.forEach((row, i) => {
      const x = at.x(row), y = at.y(row);
      const inside = x >= MARGIN.left && y >= MARGIN.top && x <= at.width - MARGIN.right && y <= at.height - MARGIN.bottom;
      where[i] = inside ? Math.floor(y / CELL) * wide + Math.floor(x / CELL) : -1;
      if (inside) starts[where[i] + 1]++;
    });
    for (let c = 0; c < wide * high; c++) starts[c + 1] += starts[c];
    const rows = new Int32Array(starts[wide * high]), next = starts.slice();
    visible.forEach((row, i) => { if (where[i] >= 0) rows[next[where[i]]++] = row; });
    cells = { at, wide, high, starts, rows };
  }
  function nearest(x, y, reach, allowed) {
    if (!cells) index();
    const { at, wide, high, starts, rows } = cells, around = Math.ceil(reach / CELL);
    const cx = Math.floor(x / CELL), cy = Math.floor(y / CELL);
    let best = -1, least = reach * reach;
    for (let j = Math.max(cy - around, 0); j <= Math.min(cy + around, high - 1); j++) {
      const from = j * wide + Math.max(cx - around, 0), to = j * wide + Math.min(cx + around, wide - 1);
      for (let k = starts[from]; k < starts[to + 1]; k++) {
        const dx = at.x(rows[k]) - x, dy = at.y(rows[k]) - y, far = dx * dx + dy * dy;
        if (far < least && (!allowed || allowed(dx, dy, rows[k]))) { least = far; best = rows[k]; }
      }
    }
    return best;
  }

  const label = (number) => (number === NONE ? "unknown" : view.labels[number]);
  const keptBy = (row) => view.selections.filter((one) => one.has(row)).map((one) => one.name).join(", ") || "none";
  const text = (row) => view.texts[row] || "(no artifact holds this text)";
  const probs = (row) => {
    const width = view.labels.length;
    if (!view.probs) return "not in an artifact";
    return view.labels.map((name, c) => `${name} ${(view.probs[row * width + c] / 65535).toFixed(3)}`).join(", ");
  };
  function describe(row) {
    const entries = [
      ["id", view.ids[row]], ["text", text(row)], ["prompt label", label(view.prompt[row])], ["teacher", probs(row)],
      ["kept by", keptBy(row)],
    ];
    if (view.domains.length) entries.splice(2, 0, ["domain", view.domain[row] === NONE ? "unknown" : view.domains[view.domain[row]]]);
    return entries;
  }
  function terms(entries) {
    const list = document.createElement("dl");
    for (const [term, value] of entries) {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = term; dd.textContent = value; dd.dir = "auto";
      list.append(dt, dd);
    }
    return list;
  }
  function openRow(row) {
    current = row;
    const entries = describe(row), one = view.selections.find((s) => s.has(row));
    if (view.ancestry.length) entries.push(["descends from", view.ancestry.join("\n")]);
    const quoted = `'${view.ids[row].replaceAll("'", "'\\''")}'`;
    if (one) entries.push(["its whole way", `python main.py peek ${one.path} --id ${quoted}`]);
    $("said").replaceChildren(terms(entries));
    for (const line of $("list").tBodies[0].rows) line.classList.toggle("open", Number(line.dataset.row) === row);
    draw();
  }
  function tip(row, x, y) {
    const box = $("tip");
    box.hidden = row < 0;
    if (row < 0) return;
    box.replaceChildren(terms(describe(row).slice(1)));
    const wide = canvas.clientWidth;
    box.style.left = x < wide / 2 ? `${x + 14}px` : ""; box.style.right = x < wide / 2 ? "" : `${wide - x + 14}px`;
    box.style.top = `${Math.max(0, Math.min(y - 20, canvas.clientHeight - box.offsetHeight - 4))}px`;
  }

  function list(anew) {
    const body = $("list").tBodies[0];
    if (anew) { body.replaceChildren(); listed = 0; }
    for (const row of visible.subarray(listed, listed + PAGE)) {
      const line = body.insertRow(), button = document.createElement("button");
      line.dataset.row = row;
      button.type = "button"; button.textContent = view.ids[row];
      line.insertCell().append(button);
      for (const value of [text(row), label(view.prompt[row]), view.probs ? `${label(view.classes[row])} ${prob(row)}` : "", keptBy(row)]) line.insertCell().textContent = value;
      line.cells[1].dir = "auto";
    }
    listed = Math.min(visible.length, listed + PAGE);
    $("more").hidden = listed >= visible.length;
  }
  const prob = (row) => (view.probs[row * view.labels.length + view.classes[row]] / 65535).toFixed(2);

  function zoom(x, y, factor) {
    const at = place(), fx = (x - MARGIN.left) / at.w, fy = 1 - (y - MARGIN.top) / at.h;
    const cx = box.x0 + fx * (box.x1 - box.x0), cy = box.y0 + fy * (box.y1 - box.y0);
    box = { x0: cx - (cx - box.x0) * factor, x1: cx + (box.x1 - cx) * factor, y0: cy - (cy - box.y0) * factor, y1: cy + (box.y1 - cy) * factor };
    soon();
  }
  let waits = false;
  const soon = () => { if (!waits) { waits = true; requestAnimationFrame(() => { waits = false; draw(); }); } };

  let held = null, moved = false;
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.offsetX, y: event.offsetY, box: { ...box } }; moved = false; });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !moved) { const row = nearest(event.offsetX, event.offsetY, 14); if (row >= 0) openRow(row); }
    held = null;
  });
  canvas.addEventListener("pointerleave", () => { held = null; $("tip").hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    if (!view || !axes()) return;
    if (held && event.pointerType === "mouse" && (moved || Math.hypot(event.offsetX - held.x, event.offsetY - held.y) > 4)) {
      moved = true;
      const at = place(), dx = ((event.offsetX - held.x) / at.w) * (box.x1 - box.x0), dy = ((event.offsetY - held.y) / at.h) * (box.y1 - box.y0);
      box = { x0: held.box.x0 - dx, x1: held.box.x1 - dx, y0: held.box.y0 + dy, y1: held.box.y1 + dy };
      $("tip").hidden = true; soon();
      return;
    }
    tip(nearest(event.offsetX, event.offsetY, 12), event.offsetX, event.offsetY);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls until the map is in use
    event.preventDefault(); zoom(event.offsetX, event.offsetY, event.deltaY < 0 ? 0.85 : 1 / 0.85);
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(event.offsetX, event.offsetY, 0.5));
  canvas.addEventListener("keydown", (event) => {
    if (!view || !axes()) return;
    const at = place(), middle = [at.width / 2, at.height / 2];
    const sides = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in sides) {
      const [sx, sy] = sides[event.key], from = current >= 0 ? [at.x(current), at.y(current)] : middle;
      const allowed = (dx, dy, row) => row !== current && dx * sx + dy * sy > 0.7 * Math.hypot(dx, dy);
      let row = -1;
      for (let reach = 20; row < 0 && reach < 2 * at.width; reach *= 2) row = nearest(...from, reach, current >= 0 ? allowed : null);
      if (row >= 0) openRow(row);
    } else if (event.key === "Enter" && current >= 0) openRow(current);
    else if (event.key === "+" || event.key === "=") zoom(...(current >= 0 ? [at.x(current), at.y(current)] : middle), 0.7);
    else if (event.key === "-") zoom(...middle, 1 / 0.7);
    else if (event.key === "0") { box = null; draw(); }
    else return;
    event.preventDefault();
  });

  let typing = 0;
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("change", (event) => {
    if (event.target.id === "f-pool") open(Number(event.target.value));
    else if (event.target.id === "f-axes") { box = null; draw(); }
    else filter();
  });
  $("f-text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 200); });
  $("filters").addEventListener("reset", () => setTimeout(() => { $("f-pool").value = pool; box = null; filter(); }));
  $("more").addEventListener("click", () => list(false));
  $("list").addEventListener("click", (event) => { const line = event.target.closest("tr[data-row]"); if (line) openRow(Number(line.dataset.row)); });
  $("list").addEventListener("pointerover", (event) => {
    const line = event.target.closest("tr[data-row]");
    if (line && axes()) { draw(); const kept = current; current = Number(line.dataset.row); mark(place()); current = kept; }
  });
  new ResizeObserver(() => { if (view) soon(); }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (view) draw(); });
  open(0);
})();
