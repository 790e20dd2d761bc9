// What makes the page hard to read at the width of the window.
() => {
  const faults = [];
  const named = (element) => element.outerHTML.slice(0, 80).replaceAll("\n", " ");
  // The theme lets the column around the text scroll, not the page: neither may be wider than what shows.
  for (let box = document.querySelector("article"); box; box = box.parentElement) {
    const holds = box === document.documentElement || getComputedStyle(box).overflowX !== "visible";
    if (holds && box.scrollWidth > box.clientWidth)
      faults.push(`${box.scrollWidth} px wide, of which ${box.clientWidth} show: ${named(box)}`);
  }

  // Code may scroll, and that in a narrow window only.
  const isCode = (element) => element.tagName === "PRE" && !element.closest(".highlight-text");
  for (const element of document.querySelectorAll("article *")) {
    const isCut = element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1;
    const scrolls = getComputedStyle(element).overflowX !== "visible";
    if (isCut && scrolls && !(isCode(element) && innerWidth < 500))
      faults.push(`${element.scrollWidth} px wide, of which ${element.clientWidth} show: ${named(element)}`);
  }
  for (const element of document.querySelectorAll("article :is(pre, table, svg, img)")) {
    const { right } = element.getBoundingClientRect();
    if (right > innerWidth + 0.5) faults.push(`ends at ${right} px: ${named(element)}`);
  }

  for (const element of document.querySelectorAll("article :is(p, li, dd, td, th)")) {
    const size = parseFloat(getComputedStyle(element).fontSize);
    if (size < 14) faults.push(`text of ${size} px: ${named(element)}`);
  }
  return faults;
}
