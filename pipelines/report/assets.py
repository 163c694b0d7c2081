"""The style sheet and the script that every report carries inside itself.

Series colours are those of Okabe and Ito (2008), told apart with any colour vision, made darker
or lighter where they would lack contrast with the page.
"""

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--quiet:#59636e;
--line:#d5dae0;--grid:#e6e9ed;--accent:#0b62a8;--warn:#8a3b00;--warn-bg:#fff1e0;
--warn-line:#e2a15e;--c0:#0072b2;--c1:#d55e00;--c2:#00875f;--c3:#b4578f;--c4:#b97f00;
--c5:#2f8fc4;--c6:#7a7a7a;--c7:#222;--above:#0072b2;--below:#d55e00}
@media screen and (prefers-color-scheme:dark){:root{--page:#0f1317;--card:#181d23;
--ink:#e6eaee;--quiet:#9ba7b4;--line:#333c46;--grid:#28303a;--accent:#6cb6ff;--warn:#ffc78a;
--warn-bg:#35230f;--warn-line:#8a5a24;--c0:#56a8e6;--c1:#f0803c;--c2:#2bbf92;--c3:#dd8fbd;
--c4:#e6b045;--c5:#8fd0f5;--c6:#a8a8a8;--c7:#eee;--above:#2f8fd6;--below:#e06a1f}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);line-height:1.5;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header.top,footer{max-width:1320px;margin:0 auto;padding:0 1rem}
header.top{padding-top:1.5rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.2rem;line-height:1.3;margin:2.25rem 0 .5rem;padding-top:.25rem}
h3{font-size:1rem;margin:1.25rem 0 .5rem}h4{font-size:.9rem;margin:1rem 0 .4rem}
p{margin:.4rem 0;max-width:75ch}.quiet{color:var(--quiet)}small,.small{font-size:.85rem}
h1,h2,h3,p,dd,li,summary,figcaption,th.name,td.name{overflow-wrap:anywhere}
sup{line-height:0}
a{color:var(--accent)}nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;
padding:0;margin:.75rem 0 0}
nav a{display:inline-block;padding:.2rem 0}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
.banner{border:1px solid var(--warn-line);border-left-width:6px;background:var(--warn-bg);
color:var(--warn);padding:.6rem .9rem;border-radius:6px;margin:1rem 0;font-weight:600}
.banner p{margin:0;max-width:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,190px),1fr));
gap:.75rem;margin:.75rem 0}
.tile,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:8px}
.tile{padding:.7rem .9rem}.tile .name{font-size:.9rem;font-weight:600}
.tile .big{font-size:1.7rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.tile .big.none{font-size:1.15rem;color:var(--quiet);padding:.35rem 0}
.tile .small{color:var(--quiet);font-variant-numeric:tabular-nums}
.bit{display:inline-block;margin-right:.8em}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));
gap:.75rem;margin:.75rem 0;align-items:start}
figure{margin:0;padding:.7rem .6rem .5rem;min-width:0}
figcaption{font-size:.9rem;font-weight:600;padding:0 .3rem .35rem}
figcaption .quiet{font-weight:400}
figure output{display:block;min-height:1.4em;font-size:.8rem;color:var(--quiet);
padding:.2rem .3rem 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;
margin:.6rem 0;max-width:100%;width:fit-content}
.tall{max-height:28rem;overflow-y:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
tbody tr:last-child>*{border-bottom:0}
thead th{white-space:nowrap;font-weight:600;border-bottom:1px solid var(--line);
background:var(--card);position:sticky;top:0;z-index:1}
tbody th{font-weight:500}
td.number,th.number{text-align:right;white-space:nowrap}
td.name,tbody th.name{min-width:8.5rem;max-width:22rem}
td small,th small{display:block;color:var(--quiet);font-size:.78rem}
td.none{color:var(--quiet)}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;margin:0;cursor:pointer}
th button::after{content:"\\2195";opacity:.35;padding-left:.3em;font-size:.85em}
th[aria-sort=ascending] button::after{content:"\\2191";opacity:1}
th[aria-sort=descending] button::after{content:"\\2193";opacity:1}
th button:hover{color:var(--accent)}
ol.notes{list-style:none;padding:0;margin:.25rem 0;font-size:.85rem;color:var(--quiet)}
details{margin:.5rem 0}details>summary{cursor:pointer;padding:.3rem 0;color:var(--accent);
font-weight:500}
dl.facts{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(0,1fr);
gap:.2rem 1rem;margin:.5rem 0;font-size:.9rem}
dl.facts dt{color:var(--quiet)}dl.facts dd{margin:0}
pre{padding:.7rem .9rem;margin:.6rem 0;font-size:.85rem;line-height:1.45}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
footer{padding-top:1.5rem;padding-bottom:2rem;color:var(--quiet);font-size:.85rem}
svg.chart{display:block;width:100%;max-width:520px;height:auto;margin:0 auto}
td svg.chart{width:120px}
svg.chart text{font-size:11.5px;fill:var(--ink);font-family:inherit}
svg.chart .quiet{fill:var(--quiet)}
svg .rule{stroke:var(--grid);fill:none}svg .axis{stroke:var(--quiet);fill:none;opacity:.7}
svg .identity{stroke:var(--quiet);stroke-dasharray:5 4;fill:none}
svg .mark{stroke:var(--ink);stroke-dasharray:3 3;fill:none}
svg .line{stroke:var(--s);stroke-width:1.8;fill:none;stroke-linejoin:round}
svg .band{fill:var(--s);opacity:.18}svg .dot{fill:var(--s)}svg .bar{fill:var(--s);opacity:.8}
svg .outline{stroke:var(--s);stroke-width:1.5;fill:var(--s);fill-opacity:.12}
svg .whisker{stroke:var(--ink);stroke-width:1.4;fill:none}
svg .points .dot{fill-opacity:.6}svg .points.many .dot{fill-opacity:.35}
svg .points .dot.picked{fill-opacity:1;stroke:var(--ink);stroke-width:2}
svg .span{fill:var(--c1);opacity:.16}svg .above{fill:var(--above)}svg .below{fill:var(--below)}
svg .cell{fill:none;stroke:var(--line)}svg .hollow{fill:none;stroke:var(--line);
stroke-dasharray:3 3}svg .placeholder{fill:none;stroke:var(--line);stroke-dasharray:4 4}
.s0{--s:var(--c0)}.s1{--s:var(--c1)}.s2{--s:var(--c2)}.s3{--s:var(--c3)}.s4{--s:var(--c4)}
.s5{--s:var(--c5)}.s6{--s:var(--c6)}.s7{--s:var(--c7)}
@media (max-width:480px){h1{font-size:1.35rem}main,header.top,footer{padding-left:.75rem;
padding-right:.75rem}figure{padding:.6rem .3rem .4rem}th,td{padding:.35rem .5rem}
dl.facts{grid-template-columns:minmax(0,1fr);gap:0}dl.facts dd{margin-bottom:.4rem}
.tiles{grid-template-columns:repeat(auto-fit,minmax(min(100%,145px),1fr));gap:.5rem}}
@media print{.scroll,.tall{overflow:visible;max-height:none}figure,.tile{break-inside:avoid}}
"""

# Tables sort by the buttons in their heads; a scatter plot names the point nearest to the pointer.
# A table that shows only a part of its rows tells all of them in ``everyRow``, and takes them
# sorted in ``present``.
SCRIPT = """
"use strict";
document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    var button = head.querySelector("button");
    if (!button) { return; }
    button.addEventListener("click", function () {
      var numeric = head.classList.contains("number");
      var now = head.getAttribute("aria-sort");
      var down = now ? now === "ascending" : numeric;
      var sign = down ? -1 : 1;
      var body = table.tBodies[0];
      var rows = (table.everyRow || Array.from(body.rows)).map(function (row) {
        var cell = row.cells[column];
        var value = cell.hasAttribute("data-v") ? cell.getAttribute("data-v") : cell.textContent;
        return [row, value];
      });
      rows.sort(function (a, b) {
        if (a[1] === "" || b[1] === "") { return (a[1] === "") - (b[1] === ""); }
        return sign * (numeric ? Number(a[1]) - Number(b[1]) : a[1].localeCompare(b[1]));
      });
      rows = rows.map(function (pair) { return pair[0]; });
      if (table.present) { table.present(rows); } else { body.append.apply(body, rows); }
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
});
document.querySelectorAll("figure.scatter").forEach(function (figure) {
  var picture = figure.querySelector("svg");
  var output = figure.querySelector("output");
  var dots = Array.from(figure.querySelectorAll(".points circle")).map(function (dot) {
    return [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy")), dot];
  });
  var picked = null;
  function pick(event) {
    var at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(picture.getScreenCTM().inverse());
    var best = null, least = 400;
    dots.forEach(function (dot) {
      var far = Math.pow(dot[0] - at.x, 2) + Math.pow(dot[1] - at.y, 2);
      if (far < least) { least = far; best = dot[2]; }
    });
    if (best === picked || !best) { return; }
    if (picked) { picked.classList.remove("picked"); }
    picked = best;
    best.classList.add("picked");
    output.textContent = best.querySelector("title").textContent;
  }
  picture.addEventListener("pointermove", pick);
  picture.addEventListener("pointerdown", pick);
});
"""
