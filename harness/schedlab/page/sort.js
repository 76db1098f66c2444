// SPDX-License-Identifier: GPL-2.0-only
// A click on a heading sorts its table by that column; a second click turns it round.
document.querySelectorAll("table").forEach((table) => {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => {
    const numeric = heading.classList.contains("n");
    const value = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    };
    const sort = () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const compare = (one, two) => {
        const x = value(one), y = value(two);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = numeric ? x - y : x.localeCompare(y, undefined, { numeric: true });
        return up ? order : -order;
      };
      [...body.rows].sort(compare).forEach((row) => body.appendChild(row));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
});
