"use strict";
(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawn = new Map(); // place of a chart -> its document's models

  // Bokeh paints text and axes in colours of its own: give it the page's.
  function paint(models) {
    const ink = style("--ink"), dim = style("--dim"), line = style("--line"), paper = style("--paper");
    for (const model of models) {
      if (/Axis$/.test(model.type)) {
        model.setv({ axis_label_text_color: dim, major_label_text_color: dim, axis_line_color: line,
          major_tick_line_color: line, minor_tick_line_color: null });
      } else if (model.type === "Grid") {
        model.setv({ grid_line_color: line, grid_line_alpha: 0.6 });
      } else if (model.type === "Legend") {
        model.setv({ label_text_color: ink });
      } else if (model.type === "GlyphRenderer" && /label$/.test(model.name)) {
        const background = model.name === "bar label" ? { background_fill_color: paper } : {};
        for (const glyph of [model.glyph, model.nonselection_glyph, model.selection_glyph]) {
          if (glyph && glyph.setv) glyph.setv({ text_color: ink, ...background });
        }
      }
    }
  }

  // A name is cut where its bar ends, and left out where hardly a letter would be left.
  const MARGIN_PX = 14, FEWEST_LETTERS = 3;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "11px helvetica";
  const pxPerUnit = (plot) => plot.inner_width / (plot.x_range.end - plot.x_range.start);
  function fitNames(source, plot) {
    const { left, right, name } = source.data;
    const shown = [...name].map((text, row) => {
      const letterPx = pen.measureText(text).width / text.length;
      const room = Math.floor(((right[row] - left[row]) * pxPerUnit(plot) - MARGIN_PX) / letterPx);
      if (text.length <= room) return text;
      return room <= FEWEST_LETTERS ? "" : `${text.slice(0, room - 1)}\u2026`;
    });
    const at = shown.map((text, row) => text ? left[row] : NaN); // an empty text would leave a dot of its background
    source.data = { ...source.data, shown, at };
  }

  // An outline takes at most a third of its bar: short runs side by side would be nothing but outlines.
  const EDGE_PX = 3;
  function fitEdges(source, plot) {
    const { left, right, path } = source.data;
    const edge = [...path].map((on, row) => on === "yes" ? Math.min(EDGE_PX, (right[row] - left[row]) * pxPerUnit(plot) / 3) : 0);
    source.data = { ...source.data, edge };
  }

  async function draw(place) {
    if (drawn.has(place)) return;
    drawn.set(place, []);
    const data = document.getElementById(`data-${place.dataset.chart}`);
    const item = JSON.parse(data.textContent);
    const views = await Bokeh.embed.embed_item(item, place);
    const made = [...views][0].model.document;
    const models = [...made.all_models];
    drawn.set(place, models);
    paint(models);
    const barNames = made.get_model_by_name("bar names");
    if (barNames) {
      const plot = models.find((model) => model.type === "Figure");
      const fit = () => { fitNames(barNames, plot); fitEdges(made.get_model_by_name("attempts"), plot); };
      for (const property of [plot.properties.inner_width, plot.x_range.properties.end]) property.change.connect(fit);
      fit();
    }
    const skills = made.get_model_by_name("skills");
    if (skills) {
      skills.selected.properties.indices.change.connect(() => {
        const [row] = skills.selected.indices;
        if (row !== undefined) show(`skill-${skills.data.name[row]}`);
      });
    }
  }

  function show(id) {
    const section = document.getElementById(id);
    if (!section) return;
    section.open = true;
    section.scrollIntoView();
    section.querySelector("summary").focus({ preventScroll: true });
    history.replaceState(null, "", `#${id}`);
  }

  // A chart is drawn once it comes near the view: fifty learning curves would keep the page from opening.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "400px" });
  document.querySelectorAll(".chart").forEach((place) => near.observe(place));

  const opened = () => { if (location.hash.startsWith("#skill-")) show(decodeURIComponent(location.hash.slice(1))); };
  addEventListener("hashchange", opened);
  opened();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(paint));

  if ("live" in document.body.dataset) {
    let known = null;
    setInterval(async () => {
      try {
        const stamp = await (await fetch("stamp", { cache: "no-store" })).text();
        const isRead = document.querySelector("details[open]") || document.activeElement !== document.body;
        if (known !== null && stamp !== known && !isRead) location.reload();
        if (known === null || !isRead) known = stamp;
      } catch { /* the server has ended; the page stays as it is */ }
    }, 5000);
  }
})();
