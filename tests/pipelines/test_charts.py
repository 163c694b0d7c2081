import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pipelines.report.axes import Scale, domain, log_domain, log_ticks, tick_texts, ticks
from pipelines.report.charts import (
    Bar,
    Line,
    Mark,
    Point,
    Span,
    bars,
    heat_map,
    histogram,
    line_chart,
    scatter,
    sparkline,
)
from pipelines.report.html import MINUS, Html, el, escape, join, number, short_number

NS = "{http://www.w3.org/2000/svg}"
NASTY = "</title><script>alert(1)</script>\x00\u202e&\"'"


def parsed(chart: str) -> ET.Element:
    root = ET.fromstring(chart)  # raises when it is not well-formed
    assert root.tag == f"{NS}svg"
    assert root.get("role") == "img"
    assert root.find(f"{NS}title").text
    return root


def said(root: ET.Element) -> str:
    return " ".join(root.itertext())


def test_text_is_escaped_and_markup_is_kept() -> None:
    assert escape("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert el("p", "<i>", el("b", "x"), None, class_="a", data_v='"', hidden=False) == (
        '<p class="a" data-v="&quot;">&lt;i&gt;<b>x</b></p>'
    )
    assert join(["<", Html("<br>")]) == "&lt;<br>"
    assert escape("\x07\ud800") == "\\u0007\\ud800"
    assert not isinstance(escape("a") + "<", Html)  # what is put together is text again


def test_numbers_are_written_for_people() -> None:
    assert [number(value, 2) for value in (-0.001, -1234.5, 0.125)] == [
        "0.00",
        f"{MINUS}1,234.50",
        "0.12",
    ]
    written = [short_number(value) for value in (0, 12, 0.5, 3.14159, 2.5e-7, -4e9)]
    assert written == ["0", "12", "0.5", "3.142", f"2.5e{MINUS}7", f"{MINUS}4e9"]


@pytest.mark.parametrize("low", [-7.3, 0, 1e-6, 4.9e5])
@pytest.mark.parametrize("span", [3e-7, 0.02, 1, 37, 8e6])
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 3 <= len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)
    step = found[1] - found[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-2
    assert len(set(tick_texts(found))) == len(found) or abs(low) > 1e5 * span


def test_ticks_of_epochs_are_whole_and_of_logarithms_are_powers() -> None:
    assert ticks(1, 3, whole=True) == [1, 2, 3]
    assert log_ticks(1e-5, 1e-1) == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert log_ticks(0.4, 6) == pytest.approx([0.5, 1, 2, 5])
    assert log_domain([]) == (0.1, 10.0)
    assert log_domain([3.0]) == pytest.approx((1.5, 6.0))


def test_a_domain_is_never_empty() -> None:
    assert domain([]) == (0.0, 1.0)
    for values in ([0.0], [4.763, 4.763], [-2.0], [1.0, 1.0 + 1e-15]):
        low, high = domain(values)
        assert low < min(values) <= max(values) < high
    assert domain([1.2, 3.9]) == (1.0, 4.0)
    assert domain([2.0, 4.0], zero=True)[0] == 0.0


def test_scales_map_linearly_and_logarithmically() -> None:
    down = Scale(1, 5, 300, 100)
    assert [down(1), down(3), down(5)] == [300, 200, 100]
    power = Scale(1e-4, 1, 0, 400, log=True)
    assert [power(value) for value in (1e-4, 1e-2, 1)] == pytest.approx([0, 200, 400])


def circles(root: ET.Element) -> list[tuple[float, float, str]]:
    return [
        (float(c.get("cx")), float(c.get("cy")), c.find(f"{NS}title").text)
        for c in root.iter(f"{NS}circle")
    ]


def test_points_of_a_scatter_land_where_they_should() -> None:
    points = [Point(1, 1, "low"), Point(5, 5, "high"), Point(3, 3, "mid"), Point(2, 4, "off")]
    root = parsed(scatter(points, title="t", x_label="label", y_label="p", low=1, high=5))
    found = {name: (x, y) for x, y, name in circles(root)}
    (x1, y1), (x5, y5) = found["low"], found["high"]
    assert x5 - x1 == pytest.approx(y1 - y5)  # the same units both ways, y upwards
    assert x1 < x5
    assert found["mid"] == pytest.approx(((x1 + x5) / 2, (y1 + y5) / 2))
    assert found["off"] == pytest.approx((x1 + (x5 - x1) / 4, y1 + 3 * (y5 - y1) / 4))
    line = next(p for p in root.iter(f"{NS}path") if p.get("class") == "identity")
    ends = [tuple(map(float, end.split())) for end in line.get("d")[1:].split("L")]
    assert ends == [pytest.approx((x1, y1)), pytest.approx((x5, y5))]


def test_values_outside_of_the_scale_stay_inside_of_the_picture() -> None:
    points = [Point(0.5, 6.0, "a"), Point(3, 3, "b")]
    root = parsed(scatter(points, title="t", x_label="x", y_label="y", low=1, high=5))
    width, height = map(float, root.get("viewBox").split()[2:])
    assert all(0 <= x <= width and 0 <= y <= height for x, y, _ in circles(root))


def test_undefined_points_are_left_out() -> None:
    points = [
        Point(None, 1, "a"),
        Point(2, math.nan, "b"),
        Point(math.inf, 2, "c"),
        Point(1, 2, ""),
    ]
    assert len(circles(parsed(scatter(points, title="t", x_label="x", y_label="y")))) == 1
    for none in ([], points[:3]):
        root = parsed(scatter(none, title="t", x_label="x", y_label="y"))
        assert "nothing to draw" in said(root)


def test_many_points_are_thinned_out_the_same_each_time_and_the_worst_stay() -> None:
    random = np.random.default_rng(1)
    x = random.uniform(1, 5, 20_000)
    y = x + random.normal(0, 0.2, 20_000)
    y[777] = x[777] + 9
    points = [Point(a, b, f"v{i}") for i, (a, b) in enumerate(zip(x, y, strict=True))]
    first = scatter(points, title="t", x_label="x", y_label="y")
    root = parsed(first)
    names = {name for *_, name in circles(root)}
    assert len(names) == 2000
    assert "v777" in names
    assert "2,000 of 20,000 points are drawn" in said(root)
    assert len(first) < 400_000
    again = scatter(points[::-1], title="t", x_label="x", y_label="y")
    assert {name for *_, name in circles(parsed(again))} == names
    # A selection by name has no favourites: it looks like the whole.
    kept = np.array([int(name[1:]) for name in names])
    assert abs(np.mean(x[kept]) - np.mean(x)) < 0.1


def line_points(root: ET.Element) -> list[list[tuple[float, float]]]:
    paths = [p for p in root.iter(f"{NS}path") if p.get("class", "").startswith("line")]
    return [
        [tuple(map(float, corner.split())) for corner in path.get("d")[1:].split("L")]
        for path in paths
    ]


def chart(*lines: Line, **more: object) -> ET.Element:
    return parsed(line_chart(lines, title="t", x_label="epoch", **more))


def test_a_line_follows_its_values_and_a_mark_stands_at_its_epoch() -> None:
    root = chart(Line("a", [1, 2, 3], [0, 1, 0.5]), y_range=(0, 1), marks=[Mark(2, "epoch 2")])
    [[(x1, y1), (x2, y2), (x3, y3)]] = line_points(root)
    assert x2 == pytest.approx((x1 + x3) / 2)
    assert y2 < y3 < y1
    assert y3 == pytest.approx((y1 + y2) / 2)
    mark = next(p for p in root.iter(f"{NS}path") if p.get("class") == "mark")
    assert float(mark.get("d")[1:].split()[0]) == pytest.approx(x2)
    assert "epoch 2" in said(root)


def test_undefined_values_are_gaps() -> None:
    root = chart(Line("a", [1, 2, 3, 4, 5], [0.1, 0.2, None, 0.4, math.nan]))
    runs = line_points(root)
    assert [len(run) for run in runs] == [2]  # the lone value after the gap is a dot
    assert "undefined" not in said(root)
    both = chart(Line("a", [1, 2], [1, 2]), Line("b", [1, 2], [None, None]))
    assert "b: undefined" in said(both)


def test_a_logarithmic_axis_has_no_place_for_zero() -> None:
    root = chart(Line("a", [1, 2, 3, 4], [0.01, 1, 100, 0]), log_y=True)
    [run] = line_points(root)
    (_, y1), (_, y2), (_, y3) = run
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.02)


def test_long_lines_keep_their_peaks() -> None:
    y = [1.0] * 50_000
    y[31_234] = 9.0
    root = chart(Line("a", list(range(50_000)), y), y_range=(0, 10))
    [run] = line_points(root)
    assert len(run) <= 700
    heights = [point[1] for point in run]
    assert heights[0] - min(heights) == pytest.approx(0.8 * 190 - 0.8 * 14, rel=0.05)
    assert [point[0] for point in run] == sorted(point[0] for point in run)


def test_bands_and_spans_are_drawn_where_they_belong() -> None:
    line = Line("a", [0, 1, 2], [1, 2, 3], low=[0, 1, None], high=[2, 3, None])
    root = chart(line, spans=[Span(0, 1, NASTY), Span(7, 9, "outside")])
    assert sum(p.get("class", "").startswith("band") for p in root.iter(f"{NS}path")) == 1
    [span] = [r for r in root.iter(f"{NS}rect") if r.get("class") == "span"]
    [run] = line_points(root)
    assert float(span.get("x")) == pytest.approx(run[0][0])
    assert float(span.get("width")) == pytest.approx(run[1][0] - run[0][0], abs=0.02)


@pytest.mark.parametrize("y", [[], [None, None], [2.0], [2.0, 2.0], [0.0, 0.0], [1e-300, 1e300]])
def test_degenerate_lines_are_drawn_or_said(y: list[float | None]) -> None:
    for log in (False, True):
        chart(Line("a", list(range(len(y))), y), log_y=log)
    parsed(sparkline(y, title="t"))


def test_a_heat_map_writes_every_figure_and_colours_by_sign() -> None:
    values = [[1.0, -0.5], [None, math.nan]]
    root = parsed(heat_map(values, rows=["a", NASTY], columns=["x", "y"], title="t"))
    found = [r for r in root.iter(f"{NS}rect") if r.get("class") in ("above", "below")]
    assert [r.get("class") for r in found] == ["above", "below"]
    assert float(found[0].get("fill-opacity")) == pytest.approx(
        2 * float(found[1].get("fill-opacity"))
    )
    assert sum(r.get("class") == "hollow" for r in root.iter(f"{NS}rect")) == 2
    assert "1.00" in said(root)
    assert f"{MINUS}0.50" in said(root)
    assert "nothing to draw" in said(parsed(heat_map([], rows=[], columns=["x"], title="t")))


def test_bars_start_at_zero_and_show_their_interval() -> None:
    items = [
        Bar("up", 0.5, 0.25, 0.75),
        Bar("down", -0.5),
        Bar(NASTY, None, reason="labels are constant"),
    ]
    root = parsed(bars(items, title="t", x_range=(-1, 1), x_label="PLCC"))
    up, down = [r for r in root.iter(f"{NS}rect") if r.get("class", "").startswith("bar")]
    x, width = float(up.get("x")), float(up.get("width"))
    assert float(down.get("x")) + float(down.get("width")) == pytest.approx(x, abs=0.02)
    assert float(down.get("width")) == pytest.approx(width, abs=0.02)
    whisker = next(p for p in root.iter(f"{NS}path") if p.get("class") == "whisker")
    start = float(whisker.get("d")[1:].split()[0])
    end = float(whisker.get("d").split("H")[1].split("M")[0])
    assert start == pytest.approx(x + width / 2, abs=0.02)
    assert end == pytest.approx(x + 1.5 * width, abs=0.02)
    assert "undefined: labels are constant" in said(root)
    assert "nothing to draw" in said(parsed(bars([], title="t")))


def test_a_histogram_is_of_shares_and_loses_nothing() -> None:
    values = {"a": [1, 1.1, 3, 9, None], "b": [math.nan], "c": [2.0]}
    root = parsed(histogram(values, title="t", x_label="score", low=1, high=5, bins=4))
    outlines = [p for p in root.iter(f"{NS}path") if p.get("class", "").startswith("outline")]
    assert len(outlines) == 2
    steps = outlines[0].get("d").split("V")
    base = float(steps[0].split()[1])
    heights = [base - float(step.split("H")[0]) for step in steps[1:-1]]
    assert heights[0] == pytest.approx(2 * heights[2])  # two values against one
    assert heights[1] == pytest.approx(0)
    assert heights[3] == pytest.approx(heights[2])  # 9 counts into the last bin
    assert "b: none" in said(root)
    empty = histogram({"a": []}, title="t", x_label="x", low=0, high=1)
    assert "nothing to draw" in said(parsed(empty))


def test_external_names_cannot_leave_their_place() -> None:
    point = [Point(1, 1, NASTY)]
    for drawn in (
        scatter(point, title=NASTY, x_label=NASTY, y_label=NASTY),
        line_chart([Line(NASTY, [1, 2], [1, 2])], title=NASTY, x_label=NASTY, y_label=NASTY),
        heat_map([[1]], rows=[NASTY], columns=[NASTY], title=NASTY),
        bars([Bar(NASTY, 1)], title=NASTY, x_label=NASTY),
        histogram({NASTY: [1]}, title=NASTY, x_label=NASTY, low=0, high=1),
        sparkline([1, 2], title=NASTY),
    ):
        root = parsed(drawn)
        assert not list(root.iter(f"{NS}script"))
        assert "<script" not in drawn
