"""What the scoring report adds to style sheet and script."""

from pipelines.report.assets import SCRIPT as COMMON_SCRIPT
from pipelines.report.assets import STYLE as COMMON_STYLE

STYLE = (
    COMMON_STYLE
    + """
:root{--good:#12663d;--good-bg:#e3f4ea;--good-line:#6db68c;--bad:#9c1c1c;--bad-bg:#fdeaea;
--bad-line:#d98080}
@media screen and (prefers-color-scheme:dark){:root{--good:#8fdcb0;--good-bg:#12291d;
--good-line:#2f7d54;--bad:#ff9d9d;--bad-bg:#331616;--bad-line:#8f3a3a}}
svg .box-body{fill:var(--s);fill-opacity:.35;stroke:var(--s);stroke-width:1.2}
svg .median{stroke:var(--ink);stroke-width:2;fill:none}
.verdict{border:1px solid var(--line);border-left-width:6px;border-radius:6px;
padding:.6rem .9rem;margin:1rem 0}
.verdict h3{margin:0;font-size:1.05rem}.verdict ul{margin:.35rem 0 0;padding-left:1.2rem}
.verdict li{margin:.15rem 0}
.verdict.good{background:var(--good-bg);border-color:var(--good-line);color:var(--good)}
.verdict.bad{background:var(--bad-bg);border-color:var(--bad-line);color:var(--bad)}
.verdict li.ok{color:var(--ink)}.verdict li b{font-weight:650}
.good-text{color:var(--good)}.bad-text{color:var(--bad)}
article.video{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.8rem .9rem;margin:.9rem 0}
article.video>h3{margin:0 0 .15rem;font-size:1rem}
article.video figure{border:0;padding:0;background:none}
article.video .grid{margin:.4rem 0}
.tags{display:flex;flex-wrap:wrap;gap:.15rem .9rem;margin:.1rem 0 .5rem;padding:0;
list-style:none;font-size:.85rem;color:var(--quiet)}
.tags li{overflow-wrap:anywhere}.tags .alarm{color:var(--bad);font-weight:600}
.parts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));
gap:.5rem 1.25rem;align-items:start}
.parts>*{min-width:0}
article.video .parts svg.chart{max-width:400px;margin:0}
.curves{display:grid;gap:.5rem .75rem;align-items:start;
grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr))}
.curves>*:first-child{grid-row:span 2}
.shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(30%,130px),1fr));gap:.5rem}
.shots img{display:block;width:100%;height:auto;border-radius:4px;background:var(--grid)}
.shots .gone{border:1px dashed var(--line);border-radius:4px;padding:.6rem;font-size:.8rem;
color:var(--quiet);overflow-wrap:anywhere}
.shots figcaption{padding:.15rem 0 0;font-size:.8rem;font-weight:400;color:var(--quiet);
font-variant-numeric:tabular-nums}
ul.findings{margin:.3rem 0;padding-left:1.1rem;font-size:.9rem}
ul.findings li{margin:.15rem 0}
.when{font-variant-numeric:tabular-nums;font-weight:600;white-space:nowrap}
.filters{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:end;margin:.6rem 0}
.filters[hidden]{display:none}
.filters label{display:block;font-size:.85rem;color:var(--quiet);min-width:0}
.filters input,.filters select{display:block;font:inherit;font-size:1rem;color:var(--ink);
background:var(--card);border:1px solid var(--quiet);border-radius:6px;padding:.3rem .5rem;
height:2.4rem;min-width:0;max-width:100%}
.filters input{width:20rem}.filters select{width:13rem}
.filters output{font-size:.9rem;padding:.4rem 0;font-variant-numeric:tabular-nums}
#videos .scroll{max-height:38rem;overflow-y:auto}
#videos tbody th.name{min-width:14rem;position:sticky;left:0;background:var(--card)}
#videos thead th:first-child{left:0;z-index:2}
#videos td.name{min-width:20rem}
.filters button{font:inherit;height:2.4rem;color:var(--accent);background:var(--card);
border:1px solid var(--quiet);border-radius:6px;padding:.2rem .8rem;cursor:pointer}
.filters button[aria-disabled=true]{color:var(--quiet);border-color:var(--line);cursor:default}
.filters button[hidden]{display:none}
@media (max-width:480px){article.video{padding:.65rem .6rem}.filters label{width:100%}
.filters input,.filters select{width:100%}#videos .scroll{max-height:32rem}
#videos tbody th.name{min-width:8.5rem;max-width:8.5rem}}
@media print{.filters{display:none}#videos .scroll{max-height:none}
table{font-size:.7rem}th,td{padding:.2rem .4rem}#videos table{font-size:.58rem}
#videos th,#videos td{padding:.2rem .12rem}
#videos tbody th.name,#videos td.name{min-width:6rem}#videos small{font-size:.5rem}
thead th{white-space:normal}#videos thead th{font-size:.52rem}
th button::after{content:none}
article.video,.verdict{break-inside:avoid}}
"""
)

# A table with filters shows the rows that fit, a page at a time: laying out thousands of rows takes
# a browser too long. What is folded or on another page is printed all the same.
SCRIPT = (
    COMMON_SCRIPT
    + """
document.querySelectorAll(".filters").forEach(function (filters) {
  var table = document.getElementById(filters.getAttribute("data-table"));
  var size = Number(filters.getAttribute("data-page"));
  var body = table.tBodies[0];
  var text = filters.querySelector("input");
  var choices = Array.from(filters.querySelectorAll("select"));
  var output = filters.querySelector("output");
  var steps = Array.from(filters.querySelectorAll("button"));
  var page = 0, fitting = [], whole = false;
  var words = new Map();
  table.everyRow = Array.from(body.rows);
  table.everyRow.forEach(function (row) { words.set(row, row.textContent.toLowerCase()); });
  function written(number) { return number.toLocaleString("en"); }
  function show() {
    var pages = whole ? 1 : Math.max(1, Math.ceil(fitting.length / size));
    page = Math.min(Math.max(page, 0), pages - 1);
    var part = whole ? fitting : fitting.slice(page * size, (page + 1) * size);
    body.replaceChildren.apply(body, part);
    var range = pages === 1 ? written(part.length) :
      written(page * size + 1) + " to " + written(page * size + part.length) + " of " +
      written(fitting.length);
    output.textContent = fitting.length === table.everyRow.length ? range + " rows" :
      range + " rows that fit, " + written(table.everyRow.length) + " in all";
    steps.forEach(function (step) {
      var to = page + Number(step.getAttribute("data-step"));
      step.hidden = pages === 1;
      step.setAttribute("aria-disabled", String(to < 0 || to >= pages));
    });
  }
  function apply() {
    var wanted = text.value.toLowerCase().split(/\\s+/).filter(Boolean);
    fitting = table.everyRow.filter(function (row) {
      return wanted.every(function (word) { return words.get(row).indexOf(word) >= 0; }) &&
        choices.every(function (choice) {
          return choice.selectedIndex <= 0 || choice.value ===
            row.cells[Number(choice.getAttribute("data-column"))].textContent;
        });
    });
    page = 0;
    show();
  }
  table.present = function (rows) { table.everyRow = rows; apply(); };
  var timer = 0;
  text.addEventListener("input", function () {
    clearTimeout(timer);
    timer = setTimeout(apply, 120);
  });
  choices.forEach(function (choice) { choice.addEventListener("change", apply); });
  steps.forEach(function (step) {
    step.addEventListener("click", function () {
      if (step.getAttribute("aria-disabled") === "true") { return; }
      page += Number(step.getAttribute("data-step"));
      show();
      table.parentElement.scrollTop = 0;
    });
  });
  window.addEventListener("beforeprint", function () { whole = true; show(); });
  window.addEventListener("afterprint", function () { whole = false; show(); });
  filters.hidden = false;
  apply();
});
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not([open])").forEach(function (part) {
    part.open = true;
    part.setAttribute("data-folded", "");
  });
});
window.addEventListener("afterprint", function () {
  document.querySelectorAll("details[data-folded]").forEach(function (part) {
    part.open = false;
    part.removeAttribute("data-folded");
  });
});
"""
)
