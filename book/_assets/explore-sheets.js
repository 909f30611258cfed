/* Draws one figure as sheets of plotly laid over each other, so that a move draws anew only what it changes: on the lowest the axes, above
   it traces, then lines. What hangs on the same controls shares a sheet; the traces of one panel are never parted. Words lie over all. */
(() => {
  "use strict";
  const { copy } = window.bnx;
  const OPTIONS = { displayModeBar: false, showTips: false, doubleClick: false };
  const AXIS = /^[xy]axis\d*$/, NOTES = ["annotations", "shapes"];
  const KEPT = 12; // a sheet of no more states than this keeps a drawing of each
  const GROUND = "ground", TOP = "top"; // the sheets of axes and of notes that hang on no control; any other is named by its controls

  const element = (className) => Object.assign(document.createElement("div"), { className });

  const same = (one, two) => {
    if (one === two) return true;
    if (one === null || two === null || typeof one !== "object" || typeof two !== "object") return false;
    const keys = Object.keys(one);
    return keys.length === Object.keys(two).length && keys.every((key) => same(one[key], two[key]));
  };

  const axisKey = (id) => `${id[0]}axis${id.slice(1)}`;
  const partner = (layout, key) => axisKey(layout[key].anchor ?? (key[0] === "x" ? "y" : "x")); // the other axis of its panel
  const panelOf = (trace) => `${trace.xaxis ?? "x"} ${trace.yaxis ?? "y"}`;

  // --- words: plain HTML, since plotly lays each note out twice at each move, and measures it

  const SET = ["text", "x", "y", "xref", "yref", "xshift", "yshift", "xanchor", "yanchor", "font", "showarrow", "opacity"];
  const ANCHOR = { left: 0, top: 0, center: 0.5, middle: 0.5, right: 1, bottom: 1 }; // which part of a word stands at its place

  // Whether a note is words and no more: no arrow, no box, not turned. Any other is plotly's.
  const isWord = (note) => note.showarrow === false && typeof note.x === "number" && typeof note.y === "number" &&
    Object.keys(note).every((key) => SET.includes(key)) && Object.keys(note.font ?? {}).every((key) => ["color", "size"].includes(key));

  // Where a word stands along x or y, from 0 to 1 of what the axes fill, and by which part of itself; null beyond its axis.
  const placeOf = (note, letter, layout) => {
    const [id, domain] = (note[`${letter}ref`] ?? letter).split(" "), axis = layout[axisKey(id)] ?? {};
    const [from, to] = axis.range ?? [0, 1], [start, end] = axis.domain ?? [0, 1], free = domain || id === "paper";
    const share = free ? note[letter] : (note[letter] - from) / (to - from);
    if (!free && (share < 0 || share > 1)) return null;
    const nearest = !free ? 0.5 : share < 1 / 3 ? 0 : share > 2 / 3 ? 1 : 0.5, part = ANCHOR[note[`${letter}anchor`]];
    return [start + share * (end - start), part ?? (letter === "x" ? nearest : 1 - nearest)];
  };

  const wordHTML = (note, layout) => {
    const x = placeOf(note, "x", layout), y = placeOf(note, "y", layout), { l, r, t, b } = layout.margin;
    if (!x || !y) return "";
    const left = l + x[0] * (layout.width - l - r) + (note.xshift ?? 0), top = t + (1 - y[0]) * (layout.height - t - b) - (note.yshift ?? 0);
    const { color, size } = { ...layout.font, ...note.font };
    return `<span class="bnx-word" style="left: ${Math.round(left)}px; top: ${Math.ceil(top)}px; translate: ${-100 * x[1]}% ${-100 * y[1]}%; color: ${color}; ` +
      `font-size: ${size}px; opacity: ${note.opacity ?? 1}">${note.text}</span>`;
  };

  // --- sheets

  // The layout of a sheet: notes of its own, and the axes that it shows. An axis is shown on one sheet only; others have it unseen, as the
  // scale of what lies on them, or as the other one of a pair, without which plotly draws none.
  const layoutOf = ({ data, notes, axes }, layout) => {
    const refs = NOTES.flatMap((list) => notes[list]).flatMap(({ xref, yref }) => [xref, yref]);
    const keys = (ids) => ids.map(axisKey).filter((key) => layout[key]);
    const scales = keys([...refs, ...data.flatMap((trace) => panelOf(trace).split(" "))]);
    const places = keys(refs.map((ref) => ref.replace(" domain", ""))); // with those that a note spans, at whatever range
    const own = axes.length || places.length || scales.length ? [...axes, ...scales, ...places] : ["xaxis"];
    const pairs = own.map((key) => [key, partner(layout, key)]);
    const unseen = (key) => scales.includes(key) ? layout[key] : { domain: layout[key].domain, anchor: layout[key].anchor, range: [0, 1] };
    const found = pairs.flat().map((key) => [key, axes.includes(key) ? layout[key] : { ...unseen(key), visible: false }]);
    const rest = Object.entries(layout).filter(([key]) => !AXIS.test(key) && !NOTES.includes(key));
    return Object.fromEntries([...rest, ...found, ...Object.entries(notes)]);
  };

  // Plotly draws no axes of a panel without traces beside a panel that has some.
  const blanks = (data, layout) => {
    const panels = new Set(data.map(panelOf)), axes = Object.keys(layout).filter((key) => AXIS.test(key));
    const pairs = axes.map((key) => [key, partner(layout, key)].map((one) => one.replace("axis", "")).sort().join(" "));
    const missing = [...new Set(pairs)].filter((panel) => !panels.has(panel)).map((panel) => panel.split(" "));
    return missing.map(([xaxis, yaxis]) => ({ type: "scatter", x: [], y: [], hoverinfo: "skip", xaxis, yaxis }));
  };

  // {name: {data, layout}} of the sheets, the lowest first.
  const part = (data, layout, patches) => {
    const sheets = new Map();
    const on = (name) => sheets.get(name) ?? sheets.set(name, { data: [], axes: [], notes: { annotations: [], shapes: [] } }).get(name);
    on(GROUND);

    // The controls that an item hangs on, by the patches of its own parts, or of the list that it stands in where that is one leaf.
    const controls = (...path) => {
      const of = patches.filter((patch) => path.every((key, i) => i >= patch.path.length || patch.path[i] === key));
      return [...new Set(of.flatMap(({ by }) => by))].sort();
    };
    const panels = new Map();
    data.forEach((trace, i) => {
      const panel = panels.get(panelOf(trace)) ?? panels.set(panelOf(trace), { traces: [], by: new Set() }).get(panelOf(trace));
      panel.traces.push(trace);
      for (const control of controls("data", i)) panel.by.add(control);
    });
    for (const { traces, by } of panels.values()) on([...by].sort().join() || GROUND).data.push(...traces);

    // What moves with traces goes on their sheet, which is drawn anew in any case.
    const drawn = [...sheets.keys()].slice(1).sort((one, two) => one.length - two.length);
    const place = (by, still) => {
      if (!by.length) return on(still);
      return on(drawn.find((name) => by.every((control) => name.split(",").includes(String(control)))) ?? by.join());
    };
    for (const key of Object.keys(layout).filter((key) => AXIS.test(key))) {
      const id = key.replace("axis", ""), its = [...panels].filter(([panel]) => panel.split(" ").includes(id)).map(([, panel]) => panel);
      const named = its.some(({ traces }) => traces.some((trace) => typeof trace[id[0]]?.[0] === "string")); // its ticks are in the traces
      place(named ? [...new Set(its.flatMap(({ by }) => [...by]))].sort() : controls("layout", key), GROUND).axes.push(key);
    }
    for (const list of NOTES) {
      (layout[list] ?? []).forEach((note, i) => isWord(note) || place(controls("layout", list, i), TOP).notes[list].push({ xref: "x", yref: "y", ...note }));
    }

    return new Map([...sheets].map(([name, sheet]) => {
      const its = layoutOf(sheet, layout);
      return [name, { data: [...sheet.data, ...blanks(sheet.data, its)], layout: its }];
    }));
  };

  class Sheets {
    constructor(plot, { patches, shape }) {
      Object.assign(this, { plot, patches, shape, words: plot.appendChild(element("bnx-words")), written: "", kept: new Map() });
    }

    // Once the width or the theme is another, no drawing is of use: that on show will be drawn over.
    forget() {
      for (const [name, [{ sheet }]] of this.kept) this.kept.set(name, [{ sheet }]);
    }

    draw(Plotly, data, layout) {
      const parts = part(data, layout, this.patches);
      for (const [name, content] of parts) this.show(Plotly, name, content, data);
      for (const [name, [{ sheet }]] of this.kept) sheet.hidden = !parts.has(name);
      const written = (layout.annotations ?? []).filter(isWord).map((note) => wordHTML(note, layout)).join("");
      if (this.written !== written) this.words.innerHTML = this.written = written;
      Object.assign(this.plot, { data, layout });
    }

    // A sheet with this content: the one on show, one kept, or one drawn now, over that on show where none more may be kept.
    show(Plotly, name, content, data) {
      const kept = this.kept.get(name) ?? this.kept.set(name, []).get(name), [shown] = kept; // that on show first
      const known = kept.find((drawing) => same(drawing.data, content.data) && same(drawing.layout, content.layout));
      const states = name.split(",").reduce((product, control) => product * (this.shape[control] ?? 1), 1);
      const room = !shown || (shown.data && states <= KEPT && kept.length < KEPT);
      const found = known ?? (room ? { sheet: element("bnx-sheet") } : shown);
      if (!shown) this.plot.append(found.sheet);
      else if (found !== shown) {
        Plotly.Fx.unhover(shown.sheet);
        shown.sheet.replaceWith(found.sheet);
      }
      this.kept.set(name, [found, ...kept.filter((drawing) => drawing !== found)]);
      if (known) return;
      const options = found.data ? undefined : OPTIONS; // which it keeps
      Object.assign(found, { data: content.data, layout: copy(content.layout) }); // for plotly writes into what it is given
      Plotly.react(found.sheet, content.data, content.layout, options);
      const own = new Set(content.data.filter((trace) => data.includes(trace)).map((trace) => panelOf(trace).replace(" ", "")));
      for (const panel of found.sheet.querySelectorAll(".nsewdrag")) { // the pointer finds a panel where its traces are
        panel.style.pointerEvents = own.has(panel.dataset.subplot) ? "all" : "none";
      }
    }
  }

  window.bnx.Sheets = Sheets;
})();
