// The texts that stand out from what is behind them by less than `least`, by the formula of WCAG 2.
(least) => {
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const colours = new Map();
  // A canvas turns whatever CSS calls a colour into red, green, blue and alpha.
  const rgba = (css) => {
    if (!colours.has(css)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = css;
      pixel.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
      colours.set(css, [red, green, blue, alpha / 255]);
    }
    return colours.get(css);
  };
  const over = ([r, g, b, alpha], under) => [r, g, b].map((c, i) => c * alpha + under[i] * (1 - alpha));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  // From the page down to the element.
  const lineage = (element) => (element ? [...lineage(element.parentElement), element] : []);
  const opacity = (element) => lineage(element).reduce((all, each) => all * getComputedStyle(each).opacity, 1);
  const faded = ([r, g, b, alpha], by) => [r, g, b, alpha * by];
  const WHITE = [255, 255, 255];
  const painted = (layers) => layers.reduce((under, layer) => over(layer, under), WHITE);

  const backgrounds = (element) => lineage(element).map((each) => rgba(getComputedStyle(each).backgroundColor));
  const fill = (shape) => {
    const style = getComputedStyle(shape);
    if (style.fill === "none") return [0, 0, 0, 0];
    return faded(rgba(style.fill), style.fillOpacity * opacity(shape));
  };

  const faults = new Set();
  const judge = (element, text, front, layers) => {
    const behind = painted(layers);
    const found = contrast(over(front, behind), behind);
    if (found < least) {
      const numbers = `${over(front, behind).map(Math.round)} on ${behind.map(Math.round)}`;
      const where = lineage(element).slice(-2).map((each) => each.cloneNode().outerHTML).join("");
      faults.add(`${found.toFixed(2)}: ${numbers}: ${where}${text.trim().slice(0, 30)}`);
    }
  };

  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const shown = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!texts.currentNode.data.trim() || !shown || element.closest("svg")) continue;
    const front = faded(rgba(getComputedStyle(element).color), opacity(element));
    judge(element, texts.currentNode.data, front, backgrounds(element));
  }

  // Behind the text of a drawing lie the shapes under its middle, and then the page.
  for (const element of document.querySelectorAll("svg :is(text, tspan)")) {
    if (!element.textContent.trim() || !element.checkVisibility()) continue;
    element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const { left, top, width, height } = element.getBoundingClientRect();
    const shapes = document
      .elementsFromPoint(left + width / 2, top + height / 2)
      .filter((each) => each instanceof SVGGeometryElement)
      .reverse();
    const layers = [...backgrounds(element.closest("svg")), ...shapes.map(fill)];
    judge(element, element.textContent, fill(element), layers);
  }
  return [...faults];
}
