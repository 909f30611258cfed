/* Brings the figures of bnlib/explore.py to life: native inputs choose a state, Plotly.react draws it.
   plotly.min.js lies beside this file and is loaded once a figure comes near the window. Works from file:// and without a network. */
(() => {
  "use strict";
  const here = document.currentScript.src;
  const INK = "#000001"; // stands in a figure for the page's text colour
  const NARROW = 520; // pixels; below it, panels side by side go one under the other

  let plotly;
  const loadPlotly = () => (plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", here);
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.min.js is missing"));
    document.head.append(script);
  }));

  // --- states, in the format of bnlib/states.py

  const unpack = async (text) => {
    const deflated = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const block = await new Response(new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
    const end = 4 + new DataView(block).getUint32(0, true);
    const planes = new Uint8Array(block, end), count = planes.length / 4, numbers = new DataView(new ArrayBuffer(planes.length));
    for (let i = 0; i < count; i++) for (let p = 0; p < 4; p++) numbers.setUint8(4 * i + p, planes[p * count + i]);
    const number = (i) => { const v = numbers.getFloat32(4 * i, true); return Number.isNaN(v) ? null : Number(v.toPrecision(5)); };
    const list = ([start, length]) => Array.from({ length }, (_, i) => number(start + i));
    const json = new TextDecoder().decode(new Uint8Array(block, 4, end - 4));
    return JSON.parse(json, (_, value) => value?.floats ? list(value.floats) : value);
  };

  // A copy with the text colour filled in. Lists of numbers are not copied: to Plotly.react, a new list is new data.
  const copy = (value, ink) => {
    if (value === INK) return ink;
    const list = Array.isArray(value);
    if (list && (typeof value[0] === "number" || Array.isArray(value[0]))) return value;
    if (list) return value.map((item) => copy(item, ink));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy(item, ink)]));
  };

  const stateAt = ({ shape, base, patches }, stops, ink = INK) => {
    const state = copy(base, ink);
    for (const { path, by, index, values } of patches) {
      const k = by.reduce((sum, control) => sum * shape[control] + stops[control], 0);
      const value = values[index ? index[k] : k];
      const owner = path.slice(0, -1).reduce((part, key) => part[key], state);
      if (value === null) delete owner[path.at(-1)];
      else owner[path.at(-1)] = copy(value, ink);
    }
    return state;
  };

  // --- looks: what the page decides about a drawing

  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  const dress = (layout, theme, width, height) => {
    Object.assign(layout, { width, height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false });
    layout.margin.autoexpand = false;
    layout.font = { ...layout.font, color: theme(1), family: theme.font };
    for (const note of layout.annotations ?? []) if (note.font?.color) note.font.color = theme.legible(note.font.color);
    for (const key of axes(layout)) {
      const axis = Object.assign(layout[key], { gridcolor: theme(0.13), zerolinecolor: theme(0.35) });
      Object.assign(axis, { fixedrange: true, automargin: false, ticklabeloverflow: "allow" }); // no measuring of texts
      if (axis.showline) axis.linecolor = theme(0.5);
      if (axis.ticks) axis.tickcolor = theme(0.5);
    }
  };

  // Panels in one row go one under the other, each as high as it was, and their notes with them. Gives the new height.
  const stack = (layout, height) => {
    const panels = axes(layout).filter((key) => key[0] === "x" && layout[key].domain && !layout[key].overlaying)
      .map((key) => ({ x: key, y: (layout[key].anchor ?? "y").replace("y", "yaxis"), from: layout[key].domain }));
    const beside = (one, two) => one.y !== two.y && (one.from[1] <= two.from[0] || two.from[1] <= one.from[0]);
    if (panels.length < 2 || !panels.every((one) => panels.every((two) => one === two || beside(one, two)))) return height;
    const { t, b } = layout.margin, each = height - t - b, step = height + 12, whole = step * (panels.length - 1) + each;
    panels.forEach((panel, i) => {
      panel.top = 1 - (i * step) / whole;
      layout[panel.x].domain = [0, 1];
      layout[panel.y].domain = [panel.top - each / whole, panel.top];
    });
    for (const item of [...(layout.annotations ?? []), ...(layout.shapes ?? [])]) {
      for (const end of "x" in item ? [""] : ["0", "1"]) {
        const panel = panels.find(({ from }) => item["x" + end] >= from[0] - 0.01 && item["x" + end] <= from[1] + 0.01);
        if (item.xref !== "paper" || !panel) continue;
        item["x" + end] = (item["x" + end] - panel.from[0]) / (panel.from[1] - panel.from[0]);
        if (item.yref === "paper") item["y" + end] = panel.top - ((1 - item["y" + end]) * each) / whole;
      }
    }
    return whole + t + b;
  };

  // --- a figure

  class Figure {
    constructor(block) {
      this.block = block;
      this.find = (selector) => block.querySelector(selector);
      this.plot = this.find(".bnx-plot");
      this.controls = [...block.querySelectorAll("[data-keys]")].map((input) => new Control(input));
      for (const control of this.controls) control.input.addEventListener("input", () => this.go(this.stops));
      this.find(".bnx-reset").addEventListener("click", () => this.go(this.start));
      this.find(".bnx-controls").hidden = false;
      this.links();
      const near = (entries) => entries.some((entry) => entry.isIntersecting) && this.wake();
      new IntersectionObserver(near, { rootMargin: "400px" }).observe(block);
      new ResizeObserver(() => this.ready && this.draw()).observe(this.find(".bnx-stage"));
    }

    get stops() { return this.controls.map((control) => control.stop); }
    get start() { return this.controls.map((control) => control.start); }

    // A reader's move: shown at once, and soon in the address.
    go(stops) {
      this.show(stops);
      clearTimeout(Figure.writing);
      Figure.writing = setTimeout(writeAddress, 200); // browsers refuse an address that changes too often
    }

    show(stops, notice = "") {
      this.controls.forEach((control, i) => { control.stop = stops[i]; });
      this.notify(notice);
      if (this.ready) this.draw();
      else this.wake();
    }

    wake() {
      this.waking ??= Promise.all([loadPlotly(), unpack(this.find(".bnx-states").textContent)])
        .then(([Plotly, states]) => { Object.assign(this, { Plotly, states, ready: true }); this.draw(); })
        .catch((error) => this.notify(`This figure stays still: ${error.message}.`));
    }

    notify(notice) {
      this.find(".bnx-notice").textContent = notice;
      this.find(".bnx-notice").hidden = !notice;
    }

    // Draws now, or once the screen has shown what was drawn last.
    draw() {
      this.stale = true;
      if (this.busy) return;
      this.busy = true;
      requestAnimationFrame(() => { this.busy = false; if (this.stale) this.draw(); });
      this.paint();
    }

    paint() {
      this.stale = false;
      const width = this.find(".bnx-stage").clientWidth;
      if (!width) return; // folded away
      const theme = (this.theme ??= readTheme(this.block));
      const { data, layout, title, alt, height } = stateAt(this.states, this.stops, theme(1));
      const whole = width < NARROW ? stack(layout, height) : height;
      dress(layout, theme, width, whole);
      this.block.style.setProperty("--bnx-height", `${whole}px`);
      this.find(".bnx-title").innerHTML = title;
      Object.assign(this.plot, { role: "img", ariaLabel: alt });
      this.Plotly.react(this.plot, data, layout, { displayModeBar: false, showTips: false, doubleClick: false });
      if (width < NARROW) this.pull(width);
      this.block.dataset.drawn = this.stops.join();
    }

    // Words that end beyond a narrow window are pulled back into it.
    pull(width) {
      const edge = this.plot.getBoundingClientRect().left + width;
      for (const note of this.plot.querySelectorAll(".annotation")) {
        const beyond = note.getBoundingClientRect().right - edge;
        if (beyond > 0) note.style.transform = `translateX(${-beyond}px)`;
      }
    }

    links() {
      for (const link of this.block.querySelectorAll("[data-path]")) link.href = new URL(link.dataset.path, here);
      const data = this.find(".bnx-data"), code = this.find(".bnx-code"), cell = this.block.closest(".cell")?.querySelector(".cell_input");
      data.hidden = false;
      data.addEventListener("click", async () => {
        const states = this.states ?? await unpack(this.find(".bnx-states").textContent);
        const { data: traces, title, alt } = stateAt(states, this.stops);
        const chosen = Object.fromEntries(this.controls.map((control) => [control.input.name, control.key]));
        const source = this.find(".bnx-line")?.textContent ?? "";
        const text = JSON.stringify({ figure: this.block.id, state: chosen, title, description: alt, source, traces }, null, 1);
        const link = document.createElement("a"), name = Object.entries(chosen).map(([control, key]) => `_${control}-${key}`).join("");
        link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
        link.download = `${this.block.id}${name}.json`;
        link.click();
        URL.revokeObjectURL(link.href);
      });
      if (!cell) return;
      code.hidden = false;
      code.addEventListener("click", () => {
        for (let part = cell; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
        cell.scrollIntoView({ block: "center" });
      });
    }
  }

  class Control {
    constructor(input) {
      this.input = input;
      this.keys = JSON.parse(input.dataset.keys);
      this.texts = JSON.parse(input.dataset.texts);
      this.start = Number(input.dataset.start);
      this.output = input.parentElement.querySelector("output");
      this.property = { range: "value", checkbox: "checked" }[input.type] ?? "selectedIndex";
    }
    get stop() { return Number(this.input[this.property]); }
    set stop(stop) {
      this.input[this.property] = this.input.type === "checkbox" ? stop === 1 : stop;
      if (!this.output) return;
      this.output.textContent = this.texts[stop];
      this.input.setAttribute("aria-valuetext", this.texts[stop]);
    }
    get key() { return this.keys[this.stop]; }
  }

  // The page's text colour at an opacity, its font, and a colour that words of a given colour can be read in.
  const readTheme = (block) => {
    const style = getComputedStyle(block), ink = style.color.match(/[\d.]+/g).slice(0, 3).map(Number);
    const legible = (colour) => {
      const hex = ink[1] > 127 && colour.match(/^#(..)(..)(..)$/); // on dark, a third of the text colour mixed in
      return hex ? `rgb(${hex.slice(1).map((part, i) => Math.round((2 * parseInt(part, 16) + ink[i]) / 3))})` : colour;
    };
    return Object.assign((opacity) => `rgba(${ink},${opacity})`, { font: style.fontFamily, legible });
  };

  // --- the address: #name:control=key&control=key;name:...

  const readAddress = () => {
    const parts = location.hash.slice(1).split(";").map((part) => part.match(/^([a-z][a-z0-9-]*):(.*)$/s));
    return new Map(parts.filter(Boolean).map(([, name, state]) => [name, state]));
  };

  const writeAddress = () => {
    const moved = figures.filter((figure) => String(figure.stops) !== String(figure.start));
    const state = (figure) => new URLSearchParams(figure.controls.map((control) => [control.input.name, control.key]));
    const parts = moved.map((figure) => `${figure.block.id}:${state(figure)}`);
    if (parts.length) history.replaceState(null, "", `#${parts.join(";")}`);
    else if (readAddress().size) history.replaceState(null, "", location.pathname + location.search);
  };

  // The states that the address asks for; a plain #section asks for none and changes nothing.
  const followAddress = () => {
    const asked = readAddress();
    if (!asked.size) return;
    for (const figure of figures) {
      const wanted = new URLSearchParams(asked.get(figure.block.id) ?? ""), stops = figure.start;
      let notice = "";
      for (const [name, key] of wanted) {
        const i = figure.controls.findIndex((control) => control.input.name === name), stop = figure.controls[i]?.keys.indexOf(key);
        if (stop >= 0) stops[i] = stop;
        else notice = `The address asks for ${name} = ${key}, which this figure does not have; it shows its start.`;
      }
      figure.show(notice ? figure.start : stops, notice);
    }
    figures.find((figure) => asked.has(figure.block.id))?.block.scrollIntoView({ block: "nearest" });
  };

  const figures = [...document.querySelectorAll(".bnx")].map((block) => new Figure(block));
  followAddress();
  addEventListener("hashchange", followAddress);
  new MutationObserver(() => figures.forEach((figure) => { figure.theme = null; if (figure.ready) figure.draw(); }))
    .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
})();
