"use strict";
(() => {
  const rows = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("list");
  if (!list) return;
  const PAGE = 10;
  const ids = ["family", "language", "outcome", "text"];
  const inputs = Object.fromEntries(ids.map((id) => [id, document.getElementById(id)]));
  let page = 0;

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function labelled(name, text) {
    const line = element("div");
    line.append(element("span", "small", name + " "), element("span", "text", text || "(nothing)"));
    line.lastChild.dir = "auto";
    return line;
  }

  function card(row) {
    const node = element("article", "answer");
    const head = element("div");
    head.append(element("strong", row.outcome, row.outcome || "not compared"));
    const notes = [row.family, row.language, "row " + row.id.slice(0, 12)];
    if (row.judged) notes.push("by the judge");
    if (row.degenerate) notes.push("degenerate: " + row.degenerate);
    if (row.execution) notes.push("tests: " + row.execution);
    head.append(element("span", "small", " · " + notes.join(" · ")));
    node.append(head, labelled("prompt", row.prompt), labelled("expected", row.target));
    const columns = element("div", "columns");
    for (const role of Object.keys(row.answers)) {
      const column = element("div", role);
      const score = row.scores[role];
      column.append(element("div", "small", role + ": " + (score === null ? "no score" : score.toFixed(2))));
      const answer = element("div", "text", row.answers[role] || "(nothing)");
      answer.dir = "auto";
      column.append(answer);
      columns.append(column);
    }
    node.append(columns);
    return node;
  }

  function chosen() {
    const text = inputs.text.value.toLowerCase();
    return rows.filter((row) =>
      ["family", "language", "outcome"].every((name) => !inputs[name].value || row[name] === inputs[name].value) &&
      (!text || [row.id, row.prompt, row.target, ...Object.values(row.answers)].some((t) => t.toLowerCase().includes(text))));
  }

  function show() {
    const found = chosen();
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    document.getElementById("count").textContent = found.length ? `page ${page + 1} of ${last + 1}, ${found.length} rows` : "no rows";
    document.getElementById("previous").disabled = page === 0;
    document.getElementById("next").disabled = page === last;
  }

  for (const name of ["family", "language"]) {
    for (const value of [...new Set(rows.map((row) => row[name]))].sort()) inputs[name].append(new Option(value, value));
  }
  for (const id of ids) inputs[id].addEventListener("input", () => { page = 0; show(); });
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("previous").addEventListener("click", () => { page -= 1; show(); });
  document.getElementById("next").addEventListener("click", () => { page += 1; show(); });
  for (const button of document.querySelectorAll("button.rows")) {
    button.addEventListener("click", () => {
      inputs.family.value = button.dataset.family;
      inputs.outcome.value = button.dataset.outcome;
      inputs.language.value = inputs.text.value = "";
      page = 0;
      show();
      document.getElementById("answers").scrollIntoView();
    });
  }
  show();
})();
