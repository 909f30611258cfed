/* Brings the figures of bnlib/explore/ to life: native inputs choose a state, plotly draws it.
   plotly.min.js lies beside this file and is loaded once a figure comes near the window. Works from file:// and without a network.
   Loaded before it, explore-looks.js says how the page dresses a drawing and explore-sheets.js how a move is drawn; after it,
   explore-tools.js adds what stands below a figure. */
(() => {
  "use strict";
  const here = document.currentScript.src;
  const NARROW = 520; // pixels; below it, panels side by side go one under the other
  const { copy, readTheme, dress, stack, Sheets } = window.bnx;

  let plotly;
  const loadPlotly = () => (plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", here);
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.min.js is missing"));
    document.head.append(script);
  }));

  // --- states, in the format of bnlib/explore/states.py

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

  const stateAt = ({ shape, base, patches }, stops, ink) => {
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

  // --- a figure

  class Figure {
    constructor(block) {
      this.block = block;
      this.find = (selector) => block.querySelector(selector);
      this.plot = this.find(".bnx-plot");
      this.failed = ""; // why it cannot move
      this.controls = [...block.querySelectorAll("[data-keys]")].map((input) => new Control(input));
      for (const control of this.controls) control.input.addEventListener("input", () => this.go(this.stops));
      this.find(".bnx-reset").addEventListener("click", () => this.go(this.start));
      this.find(".bnx-controls").hidden = false;
      this.said = Object.assign(document.createElement("p"), { className: "bnx-said", role: "status" });
      this.find(".bnx-controls").after(this.said);
      for (const link of block.querySelectorAll("[data-path]")) link.href = new URL(link.dataset.path, here);
      const near = (entries) => entries.some((entry) => entry.isIntersecting) && this.wake();
      new IntersectionObserver(near, { rootMargin: "400px" }).observe(block);
      new ResizeObserver(([{ target }]) => target.clientWidth === this.width || this.fit()).observe(this.find(".bnx-stage"));
    }

    get stops() { return this.controls.map((control) => control.stop); }
    get start() { return this.controls.map((control) => control.start); }
    get chosen() { return Object.fromEntries(this.controls.map((control) => [control.input.name, control.key])); }
    get address() { return `${this.block.id}:${new URLSearchParams(this.chosen)}`; }

    // A reader's move: shown at once, and soon in the address and told to who cannot see it.
    go(stops) {
      this.show(stops);
      clearTimeout(Figure.writing);
      Figure.writing = setTimeout(writeAddress, 200); // browsers refuse an address that changes too often
      this.tell();
    }

    // The values and what the title finds, for screen readers, once the hand rests.
    tell() {
      clearTimeout(this.telling);
      const values = () => this.controls.map((control) => `${control.label} ${control.texts[control.stop]}`).join(", ");
      this.telling = setTimeout(() => this.say(`${values()}: ${this.failed || this.find(".bnx-title").textContent}`), 500);
    }

    say(text) { this.said.textContent = text; }

    // This state as Python drew it.
    async document(ink) {
      await this.load();
      return stateAt(this.states, this.stops, ink);
    }

    show(stops, notice = "") {
      this.controls.forEach((control, i) => { control.stop = stops[i]; });
      this.notify(notice || this.failed);
      if (this.ready) this.draw();
      else this.wake();
    }

    wake() {
      return this.waking ??= Promise.all([loadPlotly(), this.load()])
        .then(([Plotly]) => {
          Object.assign(this, { Plotly, ready: true, sheets: new Sheets(this.plot, this.states) });
          window.FontAwesome?.noAuto(); // the theme's icons are drawn by now, and its watch over the page sees all that a move draws
          this.draw();
        })
        .catch((error) => this.notify(this.failed = `This figure stays still: ${error.message}.`));
    }

    // Drawn anew where the width or the theme may be another; the width is asked for here, where no move waits for it.
    fit() {
      this.look = null;
      this.width = this.find(".bnx-stage").clientWidth;
      if (!this.ready) return;
      this.sheets.forget();
      this.draw();
    }

    load() {
      return this.loading ??= unpack(this.find(".bnx-states").textContent).then((states) => { this.states = states; });
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
      const { width } = this;
      if (!width) return; // folded away
      const look = (this.look ??= readTheme(this.block));
      const { data, layout, title, alt, height } = stateAt(this.states, this.stops, look(1));
      const whole = width < NARROW ? stack(layout, height) : height;
      dress(data, layout, look, width, whole);
      this.frame(title, alt, `${whole}px`);
      this.sheets.draw(this.Plotly, data, layout);
      if (width < NARROW) this.pull(width);
      this.block.dataset.drawn = this.stops.join();
    }

    // What stands around the drawing, where it changes: the browser lays out anew what is written.
    frame(title, alt, height) {
      if (this.framed === [title, alt, height].join("\n")) return;
      this.framed = [title, alt, height].join("\n");
      this.block.style.setProperty("--bnx-height", height);
      this.find(".bnx-title").innerHTML = title;
      Object.assign(this.plot, { role: "img", ariaLabel: alt });
    }

    // Words that end beyond a narrow window are pulled back into it.
    pull(width) {
      const edge = this.plot.getBoundingClientRect().left + width;
      for (const note of this.plot.querySelectorAll(".annotation, .bnx-word")) {
        const beyond = note.getBoundingClientRect().right - edge;
        if (beyond > 0) note.style.transform = `translateX(${-beyond}px)`;
      }
    }
  }

  class Control {
    constructor(input) {
      this.input = input;
      this.keys = JSON.parse(input.dataset.keys);
      this.texts = JSON.parse(input.dataset.texts);
      this.start = Number(input.dataset.start);
      this.label = input.labels[0].textContent;
      this.output = input.parentElement.querySelector("output");
      this.output?.setAttribute("aria-live", "off"); // the slider says its value, and Figure.tell the rest
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

  // --- the address: #name:control=key&control=key;name:...

  const readAddress = () => {
    const parts = location.hash.slice(1).split(";").map((part) => part.match(/^([a-z][a-z0-9-]*):(.*)$/s));
    return new Map(parts.filter(Boolean).map(([, name, state]) => [name, state]));
  };

  const writeAddress = () => {
    const moved = figures.filter((figure) => String(figure.stops) !== String(figure.start));
    const parts = moved.map((figure) => figure.address);
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
        else notice = `The address asks for ${figure.controls[i]?.label ?? name} ${key}, which this figure does not have; it shows its start.`;
      }
      figure.show(notice ? figure.start : stops, notice);
    }
    const lost = [...asked.keys()].find((name) => !figures.some((figure) => figure.block.id === name));
    if (lost) figures[0].notify(`The address asks for the figure ${lost}, which this page does not have.`);
    const first = figures.find((figure) => asked.has(figure.block.id)) ?? figures[0];
    first.block.scrollIntoView({ block: "nearest" });
  };

  const figures = [...document.querySelectorAll(".bnx")].map((block) => new Figure(block));
  Object.assign(window.bnx, { figures, writeAddress });
  followAddress();
  addEventListener("hashchange", followAddress);
  new MutationObserver(() => figures.forEach((figure) => figure.fit()))
    .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
})();
