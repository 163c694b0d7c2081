"""Charts as inline SVG: data in, markup out.

Undefined values (``None``, NaN, infinite) are gaps, never zeros. Charts are drawn for a phone's
width and scale with their box; the page's style sheet (``pipelines.report.assets``) gives their
colours, light and dark. Nothing here knows what the figures mean.
"""

from pipelines.report.box_charts import Box, boxes
from pipelines.report.line_charts import Line, Mark, Span, line_chart, sparkline
from pipelines.report.point_charts import Point, histogram, scatter
from pipelines.report.table_charts import Bar, bars, heat_map

__all__ = [
    "Bar",
    "Box",
    "Line",
    "Mark",
    "Point",
    "Span",
    "bars",
    "boxes",
    "heat_map",
    "histogram",
    "line_chart",
    "scatter",
    "sparkline",
]
