"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const rows = new Map(), open = new Set();
  const told = [], levels = new Set(["error", "warning", "info"]);
  let state = null, paused = false, token = "", filter = "";

  // ---- making elements: text only ever goes in as text

  function make(tag, attributes = {}, ...children) {
    const element = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }
  const put = (element, ...children) => element.replaceChildren(...children.filter((c) => c !== null && c !== undefined));

  // ---- numbers for people

  const number = (n) => n === null || n === undefined ? "–" : Math.abs(n) >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : Math.abs(n) >= 1e4 ? `${(n / 1e3).toFixed(1)} k` : Number.isInteger(n) ? String(n) : n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
  const percent = (n) => n === null || n === undefined ? "–" : n === 0 ? "0 %" : n >= 1 ? "100 %" : n < 0.001 ? "<0.1 %" : n > 0.999 ? ">99.9 %" : `${(n * 100).toFixed(n < 0.1 ? 1 : 0)} %`;
  const exact = (n) => n === null || n === undefined ? "–" : `${+(n * 100).toFixed(3)} %`;
  const time = (s) => s === null || s === undefined ? "–" : s < 0.001 ? "<1 ms" : s < 0.01 ? `${(s * 1e3).toFixed(1)} ms` : s < 1 ? `${(s * 1e3).toFixed(0)} ms` : s < 90 ? `${s.toFixed(s < 10 ? 2 : 0)} s` : s < 5400 ? `${(s / 60).toFixed(0)} min` : s < 172800 ? `${(s / 3600).toFixed(0)} h` : `${(s / 86400).toFixed(0)} d`;
  const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const grade = (errors) => errors >= 0.05 ? "bad" : errors >= 0.01 ? "warn" : "";
  const GRADE = { closed: "good", half_open: "warn", open: "bad", forced_open: "bad" };
  const words = (text) => text.replaceAll("_", " ");

  // ---- one operation

  function spark(operation) {
    const rates = operation.rates, failures = operation.failures, width = 120, height = 32;
    const top = Math.max(...rates, 1e-9), step = width / Math.max(59, 1), start = width - step * (rates.length - 1);
    const y = (value) => height - 1 - (value / top) * (height - 3);
    const points = rates.map((rate, n) => `${(start + n * step).toFixed(1)},${y(rate).toFixed(1)}`);
    const svg = make("svg:svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `calls per second, up to ${number(top)}` });
    if (rates.length > 1) {
      svg.append(make("svg:path", { class: "area", d: `M${points.join("L")}L${width},${height}L${start.toFixed(1)},${height}Z` }));
      failures.forEach((rate, n) => { if (rate > 0) svg.append(make("svg:rect", { class: "fail", x: (start + n * step - step / 2).toFixed(1), y: y(rate).toFixed(1), width: step.toFixed(1), height: (height - y(rate)).toFixed(1) })); });
      svg.append(make("svg:path", { class: "edge", d: `M${points.join("L")}` }));
    }
    return svg;
  }

  function chips(operation) {
    const found = [];
    const add = (text, kind = "") => found.push(make("span", { class: `chip ${kind}` }, text));
    for (const breaker of operation.breakers) add(`${words(breaker.state)}${breaker.state === "closed" && breaker.failures > 0.01 ? ` · ${percent(breaker.failures)} failing` : ""}`, GRADE[breaker.state]);
    if (operation.bulkhead) add(`${number(operation.bulkhead.used)}/${number(operation.bulkhead.limit)} in flight${operation.bulkhead.queue ? ` · ${number(operation.bulkhead.queue)} wait` : ""}`, operation.bulkhead.used >= operation.bulkhead.limit ? "warn" : "");
    if (operation.cache && operation.cache.ratio !== null) add(`cache ${percent(operation.cache.ratio)}`);
    if (operation.budget !== null) add(`retry budget ${percent(operation.budget)} used`, operation.budget >= 0.9 ? "bad" : operation.budget >= 0.6 ? "warn" : "");
    if (operation.limiter && operation.limiter.available !== null && operation.limiter.available < 1) add("at its rate limit", "warn");
    if (!found.length && operation.active) add(`${number(operation.active)} active`);
    return found;
  }

  const breakable = (name) => name.split(/(?<=[._/])/).flatMap((part) => [part, make("wbr")]);

  function cell(label, text, kind = "", zero = false) {
    return make("span", { class: `cell ${kind}`, "data-zero": zero }, make("i", {}, label), text);
  }

  function fill(row, operation) {
    const kind = grade(operation.errors), idle = operation.rate === 0;
    put(row.button,
      make("span", { class: "name" }, ...breakable(operation.name), make("small", {}, `${number(operation.calls)} calls${operation.retries ? ` · ${number(operation.retries)} retries` : ""}`)),
      spark(operation),
      cell("calls/s", number(operation.rate), "", idle), cell("errors", percent(operation.errors), kind, !operation.errors),
      cell("p50", time(operation.p50), "", idle), cell("p95", time(operation.p95), "", idle), cell("p99", time(operation.p99), "", idle),
      make("span", { class: "states" }, ...chips(operation)));
    row.button.setAttribute("aria-expanded", String(open.has(operation.name)));
    row.more.hidden = !open.has(operation.name);
    if (!row.more.hidden && !row.more.contains(document.activeElement)) put(row.more, ...details(operation));
  }

  function details(operation) {
    const outcomes = Object.entries(operation.outcomes);
    const parts = [make("div", {}, make("h3", {}, "Outcomes, since the start"),
      make("div", { class: "split" }, ...outcomes.map(([name, count]) => make("span", { class: `o-${name}`, style: { flex: String(count) } }))),
      make("div", { class: "legend" }, ...outcomes.map(([name, count]) => make("span", { class: "key", style: { "--c": COLOURS[name] || "var(--dim)" } }, `${name} ${number(count)}`))),
      facts("Refused, by reason", Object.entries(operation.rejections).map(([reason, count]) => [words(reason), number(count)])))];
    parts.push(make("div", {}, make("h3", {}, "Durations, last minute"), histogram(operation)));
    for (const breaker of operation.breakers) parts.push(circuit(operation, breaker));
    if (operation.cache) parts.push(make("div", {}, facts("Cache", Object.entries(operation.cache.requests).map(([result, count]) => [result, number(count)])), acts(operation, [["clear_cache", "Clear the cache"]])));
    return parts;
  }

  const COLOURS = { ok: "var(--good)", cached: "#3b82f6", fallback: "var(--warn)", error: "var(--bad)", timeout: "var(--bad)", rejected: "#8b5cf6" };

  function facts(title, pairs) {
    if (!pairs.length) return null;
    return make("div", {}, make("h3", {}, title), make("dl", { class: "facts" }, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))));
  }

  function histogram(operation) {
    const counts = operation.buckets, used = counts.map((count, n) => count > 0 ? n : -1).filter((n) => n >= 0);
    if (!used.length) return make("p", { class: "dim" }, "No calls in the last minute.");
    const from = Math.max(0, used[0] - 1), to = Math.min(counts.length - 1, used[used.length - 1] + 1), top = Math.max(...counts);
    const bounds = operation.bounds, past = bounds.findIndex((bound) => bound >= operation.p99);
    const name = (n) => n < bounds.length ? `up to ${time(bounds[n])}` : `over ${time(bounds[bounds.length - 1])}`;
    const bars = counts.slice(from, to + 1).map((count, k) => make("span", { class: from + k > past ? "past" : "", title: `${name(from + k)}: ${number(count)}`, style: { height: `${(count / top) * 100}%` } }));
    return make("div", { role: "img", "aria-label": `p50 ${time(operation.p50)}, p99 ${time(operation.p99)}` }, make("div", { class: "bars" }, ...bars), make("div", { class: "axis" }, make("span", {}, name(from)), make("span", {}, name(to))));
  }

  function circuit(operation, breaker) {
    const end = state.at, begin = Math.max(breaker.history[0][0], end - 600), strip = make("div", { class: "strip", role: "img", "aria-label": `circuit ${words(breaker.state)}` });
    breaker.history.forEach(([at, name], n) => {
      const until = n + 1 < breaker.history.length ? breaker.history[n + 1][0] : end;
      if (until > begin || n + 1 === breaker.history.length) strip.append(make("span", { class: `s-${name}`, title: `${words(name)} from ${clock(at)}`, style: { flex: String(Math.max(until - Math.max(at, begin), 0.5)) } }));
    });
    return make("div", {}, make("h3", {}, `Circuit ${breaker.name === operation.name ? "" : breaker.name}`), strip,
      make("div", { class: "axis" }, make("span", {}, clock(begin)), make("span", {}, "now")),
      facts("", [["state", words(breaker.state)], ["failing in its window", percent(breaker.failures)], ["opened", `${number(breaker.opened)} times`]]),
      acts(operation, [["force_open", "Force open", "danger"], ["force_close", "Force closed"]]));
  }

  function acts(operation, choices) {
    if (!state.acts) return null;
    return make("div", { class: "acts" }, ...choices.map(([act, text, kind]) => make("button", { type: "button", class: kind || "", onclick: () => doIt(act, text, operation.name) }, text)));
  }

  async function doIt(act, text, operation) {
    if (!confirm(`${text}: ${operation}?`)) return;
    const answer = await fetch("/act", { method: "POST", headers: authorized(), body: JSON.stringify({ act, operation }) });
    if (!answer.ok) alert(await answer.text());
    document.activeElement.blur();
  }

  // ---- the whole page

  const ORDER = {
    trouble: (o) => -(o.breakers.some((b) => b.state !== "closed") ? 10 : 0) - o.errors - (o.rate > 0 ? 1e-6 : 0), name: () => 0,
    rate: (o) => -o.rate, errors: (o) => -o.errors, p99: (o) => -(o.p99 || 0),
  };

  function draw() {
    if (!state) return;
    const shown = state.operations.filter((o) => !filter || o.name.toLowerCase().includes(filter));
    const order = ORDER[$("sort").value];
    shown.sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
    for (const [name, row] of rows) if (!shown.some((o) => o.name === name)) { row.item.remove(); rows.delete(name); }
    shown.forEach((operation, n) => {
      if (!rows.has(operation.name)) rows.set(operation.name, begin(operation.name));
      const row = rows.get(operation.name), there = $("list").children[n];
      if (there !== row.item && !(document.activeElement && row.item.contains(document.activeElement))) $("list").insertBefore(row.item, there || null);
      fill(row, operation);
    });
    $("none").hidden = shown.length > 0;
    $("none").textContent = state.operations.length ? `No operation matches “${filter}”.` : "No operation yet: decorate a function with @opero and it appears here, at 0, before its first call.";
    tiles();
    panel("slos", state.slos, objective);
    panel("maps", state.maps, map);
    panel("controllers", state.controllers, controller);
    $("about").textContent = `${state.process.version} · pid ${state.process.pid} · Python ${state.process.python} · up ${time(state.process.up)}`;
    $("key").hidden = state.acts || !state.locked;
  }

  function begin(name) {
    const button = make("button", { type: "button", class: "row", onclick: () => { open.has(name) ? open.delete(name) : open.add(name); draw(); } });
    const more = make("div", { class: "more", hidden: true });
    return { button, more, item: make("li", {}, button, more) };
  }

  function tiles() {
    const all = state.operations, rate = all.reduce((sum, o) => sum + o.rate, 0), failing = all.reduce((sum, o) => sum + o.rate * o.errors, 0);
    const breakers = all.flatMap((o) => o.breakers).filter((b) => b.state !== "closed").length;
    const slow = all.reduce((worst, o) => Math.max(worst, o.p99 || 0), 0), active = all.reduce((sum, o) => sum + o.active, 0);
    const tile = (value, text, kind = "") => make("div", { class: `tile ${kind}` }, make("b", {}, value), make("span", {}, text));
    put($("tiles"), tile(number(rate), "calls a second"), tile(percent(rate ? failing / rate : 0), "end in an error", rate ? grade(failing / rate) : ""),
      tile(slow ? time(slow) : "–", "slowest p99"), tile(number(active), "in flight"),
      tile(String(breakers), breakers === 1 ? "circuit not closed" : "circuits not closed", breakers ? "bad" : ""),
      state.dropped ? tile(number(state.dropped), "log lines lost", "warn") : null);
  }

  function panel(id, items, build) {
    $(id).hidden = !items.length;
    put($(id).querySelector("ul"), ...items.map(build));
  }

  function meter(share, kind) {
    return make("div", { class: `meter ${kind}` }, make("span", { style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } }));
  }

  function objective(slo) {
    const left = slo.left, kind = left === null ? "" : left <= 0 ? "bad" : left < 0.25 ? "warn" : "";
    const burning = Object.entries(slo.burn).filter(([, rate]) => rate > 1).map(([window, rate]) => `${window} ${number(rate)}×`);
    return make("li", { class: "item" }, make("div", { class: "line" }, make("b", {}, slo.name), make("span", { class: "dim" }, `${exact(slo.sli)} of ${exact(slo.objective)}`)),
      meter(left === null ? 0 : left, kind),
      make("div", { class: "line dim" }, make("span", {}, left === null ? "" : `${percent(Math.max(0, left))} of the error budget left`), make("span", {}, burning.length ? `burning ${burning.join(", ")}` : "")));
  }

  function map(run) {
    const busy = run.limit ? run.active / run.limit : 0;
    return make("li", { class: "item" }, make("div", { class: "line" }, make("b", {}, run.name), make("span", { class: `chip ${run.limit ? "good" : ""}` }, run.limit ? "running" : "idle")),
      meter(busy, ""), make("div", { class: "line dim" }, make("span", {}, `${number(run.done)} items done${run.failed ? `, ${number(run.failed)} failed` : ""}`), make("span", {}, [run.p50 === null ? "" : `p50 ${time(run.p50)} · p99 ${time(run.p99)}`, run.limit ? `${number(run.active)} handed over, ${number(run.limit)} at once` : ""].filter(Boolean).join(" · "))));
  }

  function controller(one) {
    const about = Object.values(one.about).filter((text) => text && text !== one.operation).map(words).join(" · ");
    const moves = Object.entries(one.moves).map(([way, count]) => `${way} ${number(count)}`).join(", ");
    return make("li", { class: "item" }, make("div", { class: "line" }, make("b", {}, one.operation), make("b", {}, number(one.value))), make("div", { class: "line dim" }, make("span", {}, about), make("span", {}, moves)));
  }

  // ---- events

  const SKIP = new Set(["event", "level", "timestamp", "operation", "call", "trace_id", "span_id"]);

  function say(line) {
    const why = Object.entries(line).filter(([name, value]) => !SKIP.has(name) && value !== "" && value !== null).map(([name, value]) => `${words(name)} ${typeof value === "number" && !Number.isInteger(value) ? +value.toPrecision(3) : value}`).join(" · ");
    const [, layer, ...what] = line.event.split(".");
    return make("li", {}, make("time", {}, clock(line.timestamp)), make("span", { class: `level-${line.level}` }, line.level), make("span", { class: "what" }, `${words(layer)} ${words(what.join(" "))}`), make("span", { class: "who" }, line.operation), make("span", { class: "why", title: line.trace_id ? `trace ${line.trace_id}` : false }, why));
  }

  const wanted = (line) => levels.has(line.level) && (!filter || `${line.operation} ${line.event}`.toLowerCase().includes(filter));

  function log() {
    const shown = told.filter(wanted).slice(-200).reverse();
    put($("log"), ...shown.map(say));
    $("quiet").hidden = shown.length > 0;
    if (told.length && !shown.length) $("quiet").textContent = "No event matches.";
  }

  // ---- the stream: server-sent events, read by fetch so that a token can go with it

  const authorized = () => token ? { Authorization: `Bearer ${token}` } : {};

  function live(text, kind) {
    $("live").textContent = text;
    $("live").className = `live ${kind}`;
  }

  function hear(kind, data) {
    if (paused) return;
    if (kind === "said") {
      told.push(...data);
      told.splice(0, told.length - 1000);
      log();
    } else {
      state = data;
      draw();
      live("live", "on");
    }
  }

  let stream = null;
  async function listen() {
    for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
      stream = new AbortController();
      try {
        const answer = await fetch("/stream", { headers: authorized(), signal: stream.signal });
        if (answer.status === 401) { live("locked", "off"); $("key").hidden = false; await unlocked(); continue; }
        if (!answer.ok) throw new Error(answer.statusText);
        told.length = 0;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          wait = 500;
          text += value;
          const pieces = text.split("\n\n");
          text = pieces.pop();
          for (const piece of pieces) {
            const [, kind, data] = piece.match(/^event: (\w+)\ndata: (.*)$/s) || [];
            if (kind) hear(kind, JSON.parse(data));
          }
        }
      } catch (error) {
        if (stream.signal.aborted) { wait = 250; continue; }
      }
      live("not connected", "off");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  const unlocked = () => new Promise((resolve) => $("lock").addEventListener("close", resolve, { once: true }));

  // ---- controls

  function pause() {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    $("pause").textContent = paused ? "Go on" : "Pause";
    if (paused) live("paused", "");
  }

  const THEMES = ["auto", "light", "dark"];
  function theme(name) {
    name === "auto" ? document.documentElement.removeAttribute("data-theme") : document.documentElement.setAttribute("data-theme", name);
    $("theme").textContent = `Theme: ${name}`;
    localStorage.setItem("opero-theme", name);
  }
  const nextTheme = () => theme(THEMES[(THEMES.indexOf(localStorage.getItem("opero-theme") || "auto") + 1) % 3]);

  function step(by) {
    const buttons = [...document.querySelectorAll(".row")], at = buttons.indexOf(document.activeElement);
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, at + by))];
    if (next) next.focus();
  }

  $("find").addEventListener("input", () => { filter = $("find").value.trim().toLowerCase(); draw(); log(); });
  $("sort").addEventListener("change", draw);
  $("pause").addEventListener("click", pause);
  $("theme").addEventListener("click", nextTheme);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("key").addEventListener("click", () => $("lock").showModal());
  $("lock").addEventListener("close", () => { if ($("lock").returnValue === "ok") { token = $("token").value; if (stream) stream.abort(); } $("token").value = ""; });
  for (const button of document.querySelectorAll("[data-level]")) button.addEventListener("click", () => {
    const level = button.dataset.level, on = !levels.has(level);
    on ? levels.add(level) : levels.delete(level);
    button.setAttribute("aria-pressed", String(on));
    log();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input, select");
    if (event.key === "Escape" && typing) { $("find").value = ""; $("find").dispatchEvent(new Event("input")); event.target.blur(); return; }
    if (typing) return;
    const act = { "/": () => $("find").focus(), j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1), p: pause, t: nextTheme, "?": () => $("keys").showModal() }[event.key];
    if (act && (!event.key.startsWith("Arrow") || event.target.matches(".row"))) { event.preventDefault(); act(); }
  });
  theme(localStorage.getItem("opero-theme") || "auto");
  listen();
})();
