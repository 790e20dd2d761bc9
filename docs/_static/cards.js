// A table that is wider than the page becomes a list of cards: one for each row, whose cells say their column.
addEventListener("DOMContentLoaded", () => {
  const tables = [...document.querySelectorAll("article table.docutils")];
  for (const table of tables) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, place) => (cell.dataset.column = heads[place] ?? ""));
  }
  const fit = () => {
    for (const table of tables) {
      table.classList.remove("cards");
      table.classList.toggle("cards", table.scrollWidth > table.parentElement.clientWidth);
    }
  };
  addEventListener("resize", fit);
  fit();
});
