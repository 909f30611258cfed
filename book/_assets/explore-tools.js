/* What a reader may take from a figure of explore.js: a link to its state, its numbers, its picture, its code; and a button that plays a
   slider. Made here, so that a page without scripts shows no dead button. */
(() => {
  "use strict";
  const { figures, writeAddress, theme, dress } = window.bnx;
  const SWEEP = 6000, FASTEST = 120, SLOWEST = 700; // milliseconds: a whole play, and a stop of it
  const SAVED = { width: 720, scale: 2, ink: [34, 40, 50], ground: [255, 255, 255] };
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const element = (tag, properties, ...inner) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inner);
    return made;
  };
  const button = (text, click, className = "") => {
    const made = element("button", { type: "button", className }, text);
    made.addEventListener("click", click);
    return made;
  };

  // --- a link to this state

  // Where the browser refuses (some do, for a page opened from a file), the link is shown for the reader to copy.
  const copyLink = async (figure, made) => {
    const link = `${location.href.split("#")[0]}#${figure.address}`;
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      figure.notify(link);
      return;
    }
    figure.say("Link copied");
    made.textContent = "copied";
    setTimeout(() => { made.textContent = "copy link"; }, 2000);
  };

  // --- its numbers and its picture

  const about = (figure, { title, alt }) => ({
    figure: figure.block.id, state: figure.chosen, title, description: alt, source: figure.find(".bnx-line")?.textContent ?? "",
  });

  const json = async (figure) => {
    const state = await figure.document();
    return JSON.stringify({ ...about(figure, state), traces: state.data }, null, 1);
  };

  // A line for each point of a curve and each cell of a heat map, with those columns that any of them has.
  const csv = async (figure) => {
    const { data, layout } = await figure.document();
    const title = (axis, letter) => layout[(axis ?? letter).replace(letter, `${letter}axis`)]?.title?.text;
    const rows = data.flatMap((trace, number) => {
      const head = { trace: number + 1, name: trace.name, x_axis: title(trace.xaxis, "x"), y_axis: title(trace.yaxis, "y") };
      const at = (list, i, count) => list?.length > count ? (list[i] + list[i + 1]) / 2 : list?.[i] ?? i; // edges: the middle
      if (trace.type === "heatmap") {
        return trace.z.flatMap((row, j) => row.map((z, i) => ({
          ...head, x: at(trace.x, i, row.length), y: at(trace.y, j, trace.z.length), z, text: trace.text?.[j]?.[i],
        })));
      }
      const { x, y, error_x, error_y } = trace;
      return Array.from({ length: Math.max(x?.length ?? 0, y?.length ?? 0) }, (_, i) => ({
        ...head, x: x ? x[i] : i, y: y ? y[i] : i, error_x: error_x?.array?.[i], error_y: error_y?.array?.[i],
      }));
    });
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row).filter((key) => row[key] !== undefined)))];
    const cell = (value) => /[",\n]/.test(value ?? "") ? `"${value.replaceAll('"', '""')}"` : value ?? "";
    return [columns, ...rows.map((row) => columns.map((key) => row[key]))].map((row) => row.map(cell).join()).join("\n") + "\n";
  };

  const wrapped = (text, length) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && `${lines.at(-1)} ${word}`.length > length) lines.push(word);
      else lines.push(`${lines.pop()} ${word}`.trim());
    }
    return lines;
  };

  // On white, with its title above, and below it the state and where the numbers are from.
  const picture = (format) => async (figure) => {
    await figure.wake();
    if (!figure.ready) return; // it has said why
    const look = theme(SAVED.ink, SAVED.ground, getComputedStyle(figure.block).fontFamily);
    const { data, layout, title, height } = await figure.document(look(1));
    const lines = wrapped(title, 80), state = figure.controls.map((control) => `${control.label}: ${control.texts[control.stop]}`);
    const notes = [state.join(" · "), ...wrapped(figure.find(".bnx-line")?.textContent ?? "", 120)].filter(Boolean);
    const above = 14 + 21 * lines.length, below = 6 + 14 * notes.length, { b, l } = layout.margin;
    const whole = height + above + below;
    dress(data, layout, look, SAVED.width, whole);
    layout.margin = { ...layout.margin, t: layout.margin.t + above, b: b + below };
    layout.paper_bgcolor = "#ffffff";
    layout.title = {
      text: `<b>${lines.join("<br>")}</b>`, font: { size: 16 }, x: 12 / SAVED.width, xanchor: "left", y: 1, yanchor: "top", pad: { t: 12 },
    };
    const corner = { xref: "paper", yref: "paper", x: 0, y: 0, xanchor: "left", yanchor: "top", xshift: 12 - l, yshift: -b, showarrow: false };
    layout.annotations = [...(layout.annotations ?? []), { ...corner, text: notes.join("<br>"), align: "left", font: { size: 10.5 } }];
    const { width, scale } = SAVED;
    const file = await figure.Plotly.toImage({ data, layout }, { format, width, height: whole, scale });
    return (await fetch(file)).blob(); // a data: address
  };

  const KINDS = { CSV: [csv, "text/csv"], JSON: [json, "application/json"], PNG: [picture("png")], SVG: [picture("svg")] };

  const save = async (figure, kind) => {
    const state = Object.entries(figure.chosen).map((part) => `_${part.join("-")}`).join("").replace(/[^\w.-]+/g, "-");
    const [make, type] = KINDS[kind], link = element("a", { download: `${figure.block.id}${state}.${kind.toLowerCase()}` });
    const content = await make(figure).catch((error) => figure.notify(`Cannot be saved: ${error.message}.`));
    if (content === undefined) return; // it has said why
    link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // --- its code

  const showCode = (cell) => {
    for (let part = cell; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    cell.scrollIntoView({ block: "center" });
  };

  // --- a slider that plays

  let stopPlaying = () => {};

  const player = (figure, control) => {
    const i = figure.controls.indexOf(control), last = control.texts.length - 1;
    const name = (playing) => { made.ariaLabel = `${playing ? "Stop" : "Play"} ${control.label}`; made.dataset.playing = playing; };
    const to = (stop) => { figure.show(figure.stops.with(i, Math.min(stop, last))); if (stop >= last) stopPlaying(); };
    const made = button("", () => {
      const playing = made.dataset.playing === "true";
      stopPlaying();
      if (playing || still.matches) return;
      const timer = setInterval(() => to(control.stop + 1), Math.min(SLOWEST, Math.max(FASTEST, SWEEP / last)));
      stopPlaying = () => {
        stopPlaying = () => {};
        clearInterval(timer);
        name(false);
        writeAddress();
        figure.tell();
      };
      name(true);
      to(control.stop === last ? 0 : control.stop + 1);
    }, "bnx-play");
    name(false);
    return made;
  };
  still.addEventListener("change", () => stopPlaying());
  document.addEventListener("visibilitychange", () => document.hidden && stopPlaying());

  for (const figure of figures) {
    const source = figure.find(".bnx-source"), cell = figure.block.closest(".cell")?.querySelector(".cell_input");
    const link = button("copy link", () => copyLink(figure, link), "bnx-link");
    const kinds = Object.keys(KINDS).map((kind) => button(kind, () => save(figure, kind), `bnx-save-${kind.toLowerCase()}`));
    const menu = element("details", { className: "bnx-save" }, element("summary", {}, "save"), element("div", {}, ...kinds));
    const tools = [link, menu, ...(cell ? [button("code", () => showCode(cell), "bnx-code")] : [])];
    const line = figure.find(".bnx-line");
    if (line) line.after(...tools);
    else source.prepend(...tools);
    for (const control of figure.controls) {
      if (control.input.type === "range" && control.texts.length > 2) control.input.parentElement.append(player(figure, control));
    }
    for (const what of ["input", "click"]) { // a hand on a control takes over
      figure.find(".bnx-controls").addEventListener(what, ({ target }) => target.closest(".bnx-play") || stopPlaying());
    }
  }
})();
