// Draws the charts from the numbers in #charts and lets the reader choose the theme. All text of the page is there without it.
"use strict";

(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const WIDE = 46; // rem: from this width on the names of the levels stand beside the lines

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const rem = () => parseFloat(getComputedStyle(root).fontSize);

  // The strokes of the lines differ as well as their colours; style.css has the same ones for the legend.
  const STROKES = {
    chance: { colour: "ink", dash: "8px,5px", width: 1.6 },
    base: { colour: "quiet", dash: "2px,4px", width: 2 },
    floor: { colour: "quiet", dash: "14px,4px", width: 1.4 },
    fault: { colour: "bad", dash: "10px,4px,2px,4px", width: 1.8 },
    reachable: { colour: "good", dash: "4px,4px", width: 1.6 },
  };

  // Names at the right ends of their lines, moved apart where lines are close; a thin leader joins each with its line.
  function names(items, range, log, box, size) {
    const height = box.height - box.t - box.b;
    const pixel = (v) => ((range[1] - (log ? Math.log10(v) : v)) / (range[1] - range[0])) * height;
    const gap = size * 1.45;
    const placed = items.map((item) => ({ ...item, at: pixel(item.y) })).sort((a, b) => a.at - b.at);
    placed.forEach((item, i) => { item.to = i ? Math.max(item.at, placed[i - 1].to + gap) : Math.max(item.at, 0); });
    for (let i = placed.length - 1, limit = height; i >= 0; i--, limit = placed[i + 1].to - gap) {
      placed[i].to = Math.min(placed[i].to, limit);
    }
    return placed.map((item) => ({
      x: 1, xref: "paper", y: log ? Math.log10(item.y) : item.y, yref: "y", text: item.text, showarrow: true, arrowhead: 0,
      arrowwidth: 1, arrowcolor: item.colour, ax: 14, ay: item.to - item.at, xanchor: "left", align: "left", borderpad: 1,
      font: { color: item.colour, size },
    }));
  }

  function base(data, width, height, right) {
    const size = Math.round(rem() * 0.8);
    const axis = {
      gridcolor: colour("rule"), linecolor: colour("rule"), zeroline: false, tickfont: { size }, automargin: false, ticks: "outside",
      tickcolor: colour("rule"), title: { font: { size }, standoff: size * 0.6 }, fixedrange: false,
    };
    const last = data.end ?? data.x[data.x.length - 1];
    const box = { width, height, l: size * 5, r: right, t: size, b: size * 3.8 };
    const layout = {
      width, height, margin: { l: box.l, r: box.r, t: box.t, b: box.b, pad: 0 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink"), size },
      showlegend: false, hovermode: "x unified", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("rule"), font: { color: colour("ink"), size }, align: "left" },
      xaxis: { ...axis, title: { ...axis.title, text: "optimizer step" }, nticks: Math.max(5, Math.floor(width / (size * 9))),
        hoverformat: ",d", tickformat: last >= 1e5 ? "~s" : ",d",
        range: [data.x[0] - 0.005 * (last - data.x[0]), last + 0.005 * (last - data.x[0])], ...(last - data.x[0] <= 8 ? { dtick: 1 } : {}) },
      yaxis: { ...axis, title: { ...axis.title, text: data.unit ? `loss (${data.unit})` : "loss" }, range: data.range,
        type: data.log ? "log" : "linear", nticks: 7, ...(data.log ? { exponentformat: "e", ...(data.range[1] - data.range[0] > 1.5 ? { dtick: 1 } : {}) } : {}) },
      shapes: [], annotations: [],
    };
    return { layout, box, size };
  }

  const unit = (data) => (data.unit ? ` ${data.unit}` : "");

  function loss(data, width, height) {
    const wide = width > WIDE * rem();
    const { layout, box, size } = base(data, width, height, rem() * (wide ? 14 : 4.6));
    const accent = colour("accent");
    const few = data.x.length < 60;
    const traces = [{
      x: data.x, y: data.y, type: "scatter", mode: few ? "lines+markers" : "lines", connectgaps: false, name: "loss",
      line: { color: data.mean ? colour("faint") : accent, width: data.mean ? 1 : 1.6 }, marker: { size: 4, color: accent },
      hovertemplate: `loss %{y:.4~f}${unit(data)}<extra></extra>`,
    }];
    if (data.mean) {
      traces.push({
        x: data.mean.x, y: data.mean.y, type: "scatter", mode: "lines", connectgaps: false, name: "mean",
        line: { color: accent, width: 2.2 }, hovertemplate: `mean of ${data.mean.of} steps %{y:.4~f}${unit(data)}<extra></extra>`,
      });
    }
    if (data.broken.length) {
      const bottom = data.log ? 10 ** data.range[0] : data.range[0];
      traces.push({
        x: data.broken, y: data.broken.map(() => bottom), type: "scatter", mode: "markers", name: "not a number", cliponaxis: false,
        marker: { symbol: "x", size: 7, color: colour("bad") }, hovertemplate: "not a number<extra></extra>",
      });
    }
    for (const level of data.levels) {
      const stroke = STROKES[level.kind];
      layout.shapes.push({
        type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: level.y, y1: level.y, layer: "below",
        line: { color: colour(stroke.colour), dash: stroke.dash, width: stroke.width },
      });
    }
    layout.annotations = names(
      data.levels.map((x) => ({ y: x.y, text: wide ? x.text : x.short, colour: colour(STROKES[x.kind].colour) })),
      data.range, data.log, box, size,
    );
    if (data.since !== null) {
      layout.shapes.push({
        type: "rect", x0: data.since, x1: Math.max(data.end, data.since), yref: "paper", y0: 0, y1: 1, layer: "below",
        fillcolor: colour("bad"), opacity: 0.12, line: { width: 0 },
      }, {
        type: "line", x0: data.since, x1: data.since, yref: "paper", y0: 0, y1: 1, line: { color: colour("bad"), width: 1.5, dash: "3px,3px" },
      });
      layout.annotations.push({
        x: data.since, yref: "paper", y: 1, yanchor: "top", xanchor: data.since > data.end / 2 ? "right" : "left",
        showarrow: false, text: ` not a number after step ${data.since.toLocaleString("en")} `, font: { color: colour("bad"), size },
      });
    }
    return { traces, layout };
  }

  function proof(data, width, height) {
    const wide = width > WIDE * rem();
    const { layout, box, size } = base(data, width, height, rem() * (wide ? 8 : 5.4));
    const arms = [
      { y: data.control, name: "as it is", colour: colour("ink"), dash: "6px,4px", symbol: "circle-open" },
      { y: data.fixed, name: "with the fix", colour: colour("good"), dash: "solid", symbol: "circle" },
    ];
    const traces = arms.map((arm) => ({
      x: data.x, y: arm.y, type: "scatter", mode: "lines", connectgaps: false, name: arm.name,
      line: { color: arm.colour, width: 2, dash: arm.dash }, hovertemplate: `${arm.name} %{y:.4~f}${unit(data)}<extra></extra>`,
    }));
    const ends = arms.map((arm) => ({ y: arm.y.filter((v) => v !== null).pop(), text: arm.name, colour: arm.colour }));
    layout.annotations = names(ends.filter((end) => end.y !== undefined), data.range, data.log, box, size);
    return { traces, layout };
  }

  function draw(element) {
    const data = charts[element.id];
    if (!data || typeof Plotly === "undefined" || element.closest("details:not([open])")) return;
    const figure = (data.kind === "loss" ? loss : proof)(data, element.clientWidth, element.clientHeight);
    Plotly.react(element, figure.traces, figure.layout, { displayModeBar: false, doubleClick: "reset", responsive: false });
    element.dataset.width = element.clientWidth;
  }

  const drawn = () => document.querySelectorAll(".chart");
  const drawAll = () => drawn().forEach(draw); // those folded away are drawn when they are opened

  const theme = document.getElementById("theme");
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wanted.matches);
  const told = () => { theme.setAttribute("aria-pressed", String(dark())); };
  theme.textContent = "Dark theme";
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; told(); drawAll(); });
  wanted.addEventListener("change", () => { told(); drawAll(); });
  told();

  let pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => drawn().forEach((e) => { if (e.dataset.width !== String(e.clientWidth)) draw(e); }));
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.open) event.target.querySelectorAll(".chart").forEach((e) => { if (e.dataset.width !== String(e.clientWidth)) draw(e); });
  }, true);

  // A link to a training that is folded away opens it.
  function reveal() {
    let element = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (!element) return;
    const target = element;
    for (; element; element = element.parentElement) if (element.tagName === "DETAILS") element.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);

  // On paper everything is open, and dark on white.
  let before = null;
  addEventListener("beforeprint", () => {
    before = { closed: [...document.querySelectorAll("details:not([open])")], theme: root.dataset.theme };
    before.closed.forEach((e) => { e.open = true; });
    root.dataset.theme = "light";
    root.dataset.print = "yes";
    drawAll();
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    before.closed.forEach((e) => { e.open = false; });
    if (before.theme) root.dataset.theme = before.theme; else delete root.dataset.theme;
    delete root.dataset.print;
    before = null;
    drawAll();
  });

  performance.mark("unstuck:start");
  drawAll();
  reveal();
  performance.mark("unstuck:drawn");
  root.dataset.drawn = "yes";
})();
