"""A figure's static picture: the part of plotly that the book draws with, as SVG.

Text, axes and grid take the page's text colour. What is not known here raises ValueError, so that a picture is never silently wrong.
"""

import re
from typing import Any

from bnlib.explore.still.ink import fit
from bnlib.explore.still.notes import annotation, legend, shape
from bnlib.explore.still.plane import Plane, under
from bnlib.explore.still.traces import DRAW, complete

__all__ = ["still"]


def still(document: dict[str, Any], *, name: str) -> str:
    """The picture of a state (`Explorer.document`) as one inline SVG element of some 10 kB, its ids beginning with `name`.

    Raises ValueError on a kind of trace, shape or setting that it cannot draw.
    """
    for key in {"images", "sliders", "updatemenus", "coloraxis"} & document["layout"].keys():
        raise ValueError(f"the static picture cannot draw layout.{key}")
    template = document["layout"].get("template", {})
    plane = Plane(under(template.get("layout", {}), document["layout"]), document["height"], name)
    traces = complete(document["data"], template.get("data", {}), plane.layout)
    plane.heated = {(trace["xaxis"], trace["yaxis"]) for trace in traces if trace["type"] == "heatmap"}
    traces = [trace if (trace["xaxis"], trace["yaxis"]) in plane.heated else fit(trace) for trace in traces]
    for trace in traces:
        DRAW[trace["type"]](plane, trace)
    for item in plane.layout.get("shapes", []):
        shape(plane, under(plane.layout.get("shapedefaults", {}), item))
    for item in plane.layout.get("annotations", []):
        annotation(plane, under(plane.layout.get("annotationdefaults", {}), item))
    for key, spec in plane.layout.items():
        if re.fullmatch(r"[xy]axis\d*", key) and spec.get("visible", True) and ("range" in spec or "matches" in spec):
            plane.frame(key.replace("axis", ""))
    legend(plane, traces)
    return plane.canvas.render(document["alt"])
