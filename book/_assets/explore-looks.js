/* What the page decides about a drawing: the colours of its theme, so that everything is legible on light and dark, and where panels go. */
(() => {
  "use strict";
  const INK = "#000001"; // stands in a figure for the page's text colour
  const FAINT = 0.6; // a trace of less opacity than this is meant to be faint

  // A copy with the text colour filled in. Lists of numbers or words are not copied: to Plotly.react, a new list is new data.
  const copy = (value, ink = INK) => {
    if (value === INK) return ink;
    const list = Array.isArray(value);
    if (list && (typeof value[0] !== "object" || Array.isArray(value[0])) && !value.includes(INK)) return value;
    if (list) return value.map((item) => copy(item, ink));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy(item, ink)]));
  };

  const numbers = (colour) => {
    const hex = colour.match(/^#(..)(..)(..)$/);
    return hex ? hex.slice(1).map((part) => parseInt(part, 16)) : colour.match(/[\d.]+/g)?.map(Number) ?? [];
  };
  const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const part = colour[i] / 255;
    return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (one, two) => {
    const [a, b] = [luminance(one), luminance(two)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const mix = (one, two, share) => one.map((part, i) => part + share * (two[i] - part));

  // A theme: the text colour at an opacity, its font, and any colour brought towards that of the text until it is seen on the ground.
  const theme = (ink, ground, font) => {
    const found = new Map();
    const seen = (colour, ratio, opacity = 1) => {
      const key = [colour, ratio, opacity].join();
      if (!found.has(key)) {
        const given = numbers(colour);
        let share = given.length === 3 ? 0 : 1; // a colour with an opacity of its own, or a name, is left alone
        while (share < 1 && contrast(mix(ground, mix(given, ink, share), opacity), ground) < ratio) share += 0.05;
        found.set(key, share > 0 && given.length === 3 ? `rgb(${mix(given, ink, Math.min(share, 1)).map(Math.round)})` : colour);
      }
      return found.get(key);
    };
    const lists = new WeakMap(); // one list for one list: to Plotly.react, a new list is new data
    const all = (list, ratio, opacity) => {
      if (!lists.has(list)) lists.set(list, list.map((one) => seen(one, ratio, opacity)));
      return lists.get(list);
    };
    return Object.assign((opacity) => `rgba(${ink},${opacity})`, { font, seen, all });
  };

  const readTheme = (block) => {
    const style = getComputedStyle(block);
    let ground = [255, 255, 255];
    for (let part = block; part; part = part.parentElement) {
      const back = numbers(getComputedStyle(part).backgroundColor);
      if (back.length === 3) { ground = back; break; } // with an opacity it has four parts
    }
    return theme(numbers(style.color).slice(0, 3), ground, style.fontFamily);
  };

  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  // Colours of lines and markers stand out from the page 3 to 1, those of words 4.5 to 1 (WCAG 2); faint lines may stay faint, and
  // what lies on a heat map was chosen for that.
  const colour = (data, layout, theme) => {
    const panel = (item, x, y) => `${item[x] ?? "x"} ${item[y] ?? "y"}`;
    const heated = new Set(data.filter(({ type }) => type === "heatmap").map((trace) => panel(trace, "xaxis", "yaxis")));
    const fit = (part, ratio, opacity = 1) => {
      if (typeof part?.color === "string") part.color = theme.seen(part.color, ratio, opacity);
      else if (typeof part?.color?.[0] === "string") part.color = theme.all(part.color, ratio, opacity);
    };
    for (const trace of data) {
      const opacity = trace.opacity ?? 1;
      if (opacity < FAINT || heated.has(panel(trace, "xaxis", "yaxis"))) continue;
      const { marker, line, error_x, error_y } = trace, own = marker?.opacity ?? (Array.isArray(marker?.size) ? 0.7 : 1); // plotly's
      const share = typeof own === "number" ? opacity * own : 1;
      for (const part of [line, error_x, error_y]) fit(part, 3, opacity);
      if (share >= FAINT) for (const part of [marker, marker?.line]) fit(part, 3, share);
      fit(trace.textfont, 4.5);
    }
    for (const note of layout.annotations ?? []) if (!note.bgcolor && !heated.has(panel(note, "xref", "yref"))) fit(note.font, 4.5);
    for (const shape of layout.shapes ?? []) if (!heated.has(panel(shape, "xref", "yref"))) fit(shape.line, 3, shape.opacity);
    for (const key of axes(layout)) for (const font of [layout[key].tickfont, layout[key].title?.font]) fit(font, 4.5);
  };

  const dress = (data, layout, theme, width, height) => {
    Object.assign(layout, { width, height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false });
    layout.margin.autoexpand = false;
    layout.font = { ...layout.font, color: theme(1), family: theme.font };
    for (const key of axes(layout)) {
      const axis = Object.assign(layout[key], { gridcolor: theme(0.13), zerolinecolor: theme(0.35) });
      Object.assign(axis, { fixedrange: true, automargin: false, ticklabeloverflow: "allow" }); // no measuring of texts
      if (axis.showline) axis.linecolor = theme(0.5);
      if (axis.ticks) axis.tickcolor = theme(0.5);
    }
    colour(data, layout, theme);
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

  window.bnx = { copy, theme, readTheme, dress, stack };
})();
