"""What the contact sheet adds to style sheet and script."""

from pipelines.report.assets import SCRIPT as COMMON_SCRIPT
from pipelines.report.assets import STYLE as COMMON_STYLE

STYLE = (
    COMMON_STYLE
    + """
article.artefact{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.75rem .9rem;margin:.8rem 0}
.head{display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:center}
.head h3{margin:0;font-size:1.05rem}.head code{color:var(--quiet);font-weight:400}
.head button{font:inherit;font-size:.9rem;min-height:2.2rem;color:var(--accent);
background:var(--card);border:1px solid var(--quiet);border-radius:6px;padding:.2rem .8rem;
cursor:pointer;margin-left:auto}
.head button:hover{border-color:var(--accent)}.head button[hidden]{display:none}
.badge{font-size:.78rem;border:1px solid var(--quiet);border-radius:1rem;padding:0 .6rem;
color:var(--quiet)}
.artefact p{margin:.15rem 0;font-size:.9rem}
.gone{border:1px dashed var(--line);border-radius:6px;padding:.6rem .8rem;font-size:.85rem;
color:var(--quiet);overflow-wrap:anywhere}
.strip{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(148px,240px);gap:.6rem;
list-style:none;margin:.5rem 0 0;padding:3px 3px .5rem;overflow-x:auto;
scroll-snap-type:x proximity}
.strip li{scroll-snap-align:start;min-width:0}
.strip figure{border:0;padding:0;background:none;margin:0}
.strip figcaption{padding:.3rem 0 0;font-size:.82rem;font-weight:400;line-height:1.4;
font-variant-numeric:tabular-nums}
.strip figcaption b{font-weight:650;font-size:.95rem}
.strip figcaption span{display:block;overflow-wrap:anywhere}
.points,.strip figcaption .points{display:inline-block;margin-right:.5em;white-space:nowrap}
.film{position:relative;border-radius:6px;overflow:hidden;background:var(--grid)}
.film video,.strip img{display:block;width:100%;height:auto}
.strip img{border-radius:4px;margin-top:.3rem;background:#000}
.film[role=button]{cursor:pointer}
.film[role=button]::after{content:"";position:absolute;right:.45rem;bottom:.45rem;
width:1.9rem;height:1.9rem;border-radius:50%;background:rgba(0,0,0,.6) no-repeat 56% 50%/.8rem
url('data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">\
<path fill="white" d="M1 0v10l9-5z"/></svg>');opacity:.85}
.film[role=button]:hover::after{opacity:1;background-color:#0b62a8}
.film.playing{box-shadow:0 0 0 3px var(--accent)}
.film.playing::after{display:none}
.film.failed::before{content:"this browser cannot play it";position:absolute;inset:auto 0 0 0;
background:rgba(0,0,0,.75);color:#fff;font-size:.75rem;padding:.2rem .4rem}
@media (max-width:480px){article.artefact{padding:.65rem .6rem}
.strip{grid-auto-columns:minmax(42vw,42vw)}.head button{margin-left:0}}
@media print{.strip{overflow:visible;grid-auto-columns:minmax(0,1fr)}.head button{display:none}
article.artefact{break-inside:avoid}.film::after{display:none}}
"""
)

# One film plays at a time. The clean one stands in the page once; the other rows borrow it.
SCRIPT = (
    COMMON_SCRIPT
    + """
(function () {
  var clean = document.querySelector("video[data-clean]");
  var current = null, queue = [], rowButton = null;
  function mark(film, on) {
    film.classList.toggle("playing", on);
    film.setAttribute("aria-pressed", String(on));
  }
  function halt() {
    if (!current) { return; }
    current.querySelector("video").pause();
    mark(current, false);
    current = null;
  }
  function endRow() {
    queue = [];
    if (rowButton) { rowButton.textContent = rowButton.getAttribute("data-play"); }
    rowButton = null;
  }
  function start(film) {
    halt();
    var video = film.querySelector("video");
    if (!video.hasAttribute("src")) { video.src = clean.src; }
    if (video.readyState) { video.currentTime = 0; }
    current = film;
    mark(film, true);
    video.play().catch(function (error) {
      if (error.name === "AbortError") { return; }
      film.classList.add("failed");
      if (current === film) { halt(); endRow(); }
    });
  }
  function next() {
    var film = queue.shift();
    if (!film) { endRow(); return; }
    start(film);
    film.parentElement.scrollIntoView({block: "nearest", inline: "nearest"});
  }
  document.querySelectorAll(".strip").forEach(function (strip) {
    var films = Array.from(strip.querySelectorAll(".film"));
    films.forEach(function (film, place) {
      var video = film.querySelector("video");
      video.removeAttribute("controls");
      video.tabIndex = -1;
      film.tabIndex = 0;
      film.setAttribute("role", "button");
      film.setAttribute("aria-label", video.getAttribute("aria-label"));
      film.setAttribute("aria-pressed", "false");
      function toggle() {
        endRow();
        if (current === film) { halt(); } else { start(film); }
      }
      film.addEventListener("click", toggle);
      film.addEventListener("keydown", function (event) {
        var step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (event.key === "Enter" || event.key === " ") { toggle(); }
        else if (step && films[place + step]) { films[place + step].focus(); }
        else { return; }
        event.preventDefault();
      });
      video.addEventListener("ended", function () {
        if (current !== film) { return; }
        mark(film, false);
        current = null;
        if (rowButton) { next(); }
      });
    });
    var button = strip.parentElement.querySelector(".head button");
    if (!button) { return; }
    button.hidden = false;
    button.addEventListener("click", function () {
      var mine = rowButton === button;
      halt();
      endRow();
      if (mine) { return; }
      rowButton = button;
      button.textContent = "Stop";
      queue = films.slice();
      next();
    });
  });
})();
"""
)
