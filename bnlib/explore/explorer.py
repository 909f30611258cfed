"""One figure, two lives: `explore` wraps a function that draws a figure from the values of its controls.

With a kernel the figure is a widget, drawn anew at each move. In the built book (BNLIB_DISPLAY=static) every state has been
drawn already, and the figure is plain HTML with native inputs that `book/_assets/explore.js` brings to life: no kernel, no network.
"""

import html
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from bnlib.explore.controls import Control, control
from bnlib.explore.states import encode, pack, plain
from bnlib.explore.still import still
from bnlib.sources import Source

State = dict[str, Any]

HEIGHT = 380
"""Pixels, where a figure sets no height."""
MARGIN = {"l": 64, "r": 16, "t": 28, "b": 48}
"""Pixels, where a figure sets none of its own. No room for a title, which the page shows above the controls."""


def explore(
    draw: Callable[..., go.Figure],
    *,
    name: str,
    alt: str | Callable[..., str],
    start: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    source: Source | None = None,
    **controls: Iterable[Any] | Mapping[str, Any],
) -> "Explorer":
    """A figure with controls: `draw(**state)` gives the figure and depends on nothing else.

    A control is a list of numbers (a slider over these stops), a list of texts or a dictionary from text to value (a menu), or
    `[False, True]` (a toggle). `start` holds the values to begin with, else the first of each; `labels` the text shown for a
    control; `alt` the text alternative, or a function of the state that gives it; `source` the line below the figure. `name` is
    the figure's HTML id, unique in its page. Every axis needs an explicit range, so that only the data move.

    Raises ValueError on a control without stops or with two alike, on a start that is no stop, and on an axis without a range.
    """
    if not re.fullmatch("[a-z][a-z0-9-]*", name):
        raise ValueError(f"name is {name!r}; it must be lower-case letters, digits and hyphens, beginning with a letter")
    if not controls:
        raise ValueError(f"{name} has no controls; give at least one, such as depth=[8, 14, 20]")
    start, labels = start or {}, labels or {}
    for given in (*start, *labels):
        _known(name, given, list(controls))
    return Explorer(draw, name, alt, [control(key, stops, labels.get(key, key), start) for key, stops in controls.items()], source)


class Explorer:
    """A figure that depends on controls. Made by `explore`; shown where it is the last value of a notebook's cell."""

    def __init__(
        self,
        draw: Callable[..., go.Figure],
        name: str,
        alt: str | Callable[..., str],
        controls: Sequence[Control],
        source: Source | None,
    ) -> None:
        self.draw, self.name, self.alt, self.controls, self.source = draw, name, alt, tuple(controls), source
        self.document()  # so that a mistake shows where it is made

    def __repr__(self) -> str:
        return f"Explorer({self.name}: {', '.join(f'{c.name} of {len(c.values)}' for c in self.controls)})"

    def states(self) -> list[State]:
        """Every combination of stops, the last control moving fastest."""
        names = [c.name for c in self.controls]
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(c.values for c in self.controls))]

    def state(self, **values: Any) -> State:
        """The state with these values, other controls at their start; ValueError where a value is no stop."""
        for given in values:
            _known(self.name, given, [c.name for c in self.controls])
        return {c.name: c.values[c.find(values[c.name]) if c.name in values else c.start] for c in self.controls}

    def figure(self, **values: Any) -> go.Figure:
        """The figure at a state, as drawn; ValueError where a value is no stop or an axis has no range."""
        state = self.state(**values)
        try:
            figure = self.draw(**state)
        except Exception as error:
            error.add_note(f"drawing {self.name} at {state}")
            raise
        _check_ranges(self.name, figure)
        return figure

    def document(self, **values: Any) -> dict[str, Any]:
        """A state as the page shows it: `data` and `layout` for plotly and, apart from them, `title` (HTML), `alt` and `height`."""
        document = plain(self.figure(**values))
        layout = document["layout"]
        title = layout.pop("title", {}).get("text", "")
        layout["margin"] = MARGIN | layout.get("margin", {})
        layout.pop("width", None)
        alt = self.alt(**self.state(**values)) if callable(self.alt) else self.alt
        if not alt.strip():
            raise ValueError(f"{self.name} has no text alternative; say in alt what the figure shows")
        return document | {"title": _inline(title), "alt": alt, "height": layout.pop("height", HEIGHT)}

    @cached_property
    def html(self) -> str:
        """The figure in all its states, for a page that has explore.css, the scripts explore*.js and, beside them, plotly.min.js."""
        first = self.document()
        shape = [len(c.values) for c in self.controls]
        packed = pack([self.document(**state) for state in self.states()], shape, first)
        shown = ", ".join(f"{c.label}: {c.texts[c.start]}" for c in self.controls)
        return _BLOCK.format(
            name=self.name,
            title=first["title"],
            controls="".join(_input_html(self.name, c) for c in self.controls),
            height=first["height"],
            still=still(first, name=self.name),
            shown=html.escape(shown),
            source=_source_html(self.source),
            states=encode(packed),
        )

    @property
    def size(self) -> int:
        """Bytes that the figure adds to its page."""
        return len(self.html.encode())

    @cached_property
    def widget(self) -> ipywidgets.VBox:
        """The figure as a widget that draws at each move; what `draw` raises is shown below it."""
        inputs = {c.name: _input_widget(c) for c in self.controls}
        reset, title, problem, view = ipywidgets.Button(description="Reset"), ipywidgets.HTML(), ipywidgets.HTML(), go.FigureWidget()

        def redraw(_: Any = None) -> None:
            try:
                figure = self.figure(**{name: field.value for name, field in inputs.items()})
            except Exception as error:
                problem.value = f'<span style="color: #d00000">{type(error).__name__}: {html.escape(" ".join(str(error).split()))}</span>'
                return
            problem.value = ""
            title.value = f"<b>{_inline(figure.layout.title.text or '')}</b>"
            _assign(view, figure)

        def restart(_: Any) -> None:
            for c in self.controls:
                inputs[c.name].value = c.values[c.start]

        redraw()
        for field in inputs.values():
            field.observe(redraw, "value")
        reset.on_click(restart)
        row = ipywidgets.HBox([*inputs.values(), reset], layout={"flex_flow": "row wrap"})
        return ipywidgets.VBox([title, row, view, problem, ipywidgets.HTML(_source_html(self.source))])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if is_static():
            return {"text/html": self.html}
        return view_of(self.widget)


def is_static() -> bool:
    """Whether what is shown goes into the built book, where no kernel runs."""
    return os.environ.get("BNLIB_DISPLAY") == "static"


def view_of(widget: ipywidgets.DOMWidget) -> dict[str, Any]:
    """What a cell returns to show a widget, and only that; the same for ipywidgets 7, as on Colab, and 8."""
    return {"application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


def _known(name: str, given: str, names: list[str]) -> None:
    if given not in names:
        raise ValueError(f"{name} has no control {given!r}; it has {', '.join(names)}")


def _check_ranges(name: str, figure: go.Figure) -> None:
    """ValueError unless each axis of the figure has a range, its own or that of the axis it matches."""
    layout = figure.layout.to_plotly_json()
    for letter in "xy":
        for axis in sorted({trace[f"{letter}axis"] or letter for trace in figure.data if f"{letter}axis" in trace}):
            key = axis.replace(letter, f"{letter}axis")
            given = layout.get(key, {})
            given = layout.get(given.get("matches", "").replace(letter, f"{letter}axis"), given)
            if len([end for end in given.get("range", ()) if end is not None]) != 2:
                raise ValueError(f"{name} draws {key} without a range; set layout.{key}.range, so that the axis stays where it is")


def _input_widget(c: Control) -> ipywidgets.ValueWidget:
    look = {"description": c.label, "style": {"description_width": "initial"}}
    if c.kind == "toggle":
        return ipywidgets.Checkbox(value=c.values[c.start], indent=False, **look)
    kind = ipywidgets.SelectionSlider if c.kind == "slider" else ipywidgets.Dropdown
    return kind(options=list(zip(c.texts, c.values, strict=True)), value=c.values[c.start], **look)


def _assign(view: go.FigureWidget, figure: go.Figure) -> None:
    """Make the widget show the figure, its title left out."""
    layout = figure.layout.to_plotly_json()
    layout.pop("title", None)
    layout["margin"] = MARGIN | layout.get("margin", {})
    traces = [{key: _without_nan(value) for key, value in trace.to_plotly_json().items()} for trace in figure.data]
    if [trace.type for trace in view.data] != [trace["type"] for trace in traces]:
        view.data = ()
        view.add_traces(traces)
    with view.batch_update():
        for trace, wanted in zip(view.data, traces, strict=True):
            _overwrite(trace, wanted)
        _overwrite(view.layout, layout)


def _without_nan(value: Any) -> Any:
    """A table with gaps, as lists: plotly sends it as JSON, which has no NaN."""
    if isinstance(value, np.ndarray) and value.ndim > 1 and value.dtype.kind == "f" and not np.isfinite(value).all():
        gaps = value.astype(object)
        gaps[~np.isfinite(value)] = None
        return gaps.tolist()
    return value


def _overwrite(shown: Any, wanted: dict[str, Any]) -> None:
    for key in shown.to_plotly_json().keys() | wanted.keys():
        if key not in ("type", "uid"):
            shown[key] = wanted.get(key)


def _inline(text: str) -> str:
    """Plotly's text as HTML: its tags for weight, slant and raised or lowered text are kept, anything else is escaped."""
    text = html.escape(re.sub(r"<br\s*/?>", " ", text), quote=False)
    return re.sub(r"&lt;(/?(?:b|i|sup|sub))&gt;", r"<\1>", text)


_BLOCK = """\
<figure class="bnx" id="{name}" style="--bnx-height: {height}px">
<figcaption class="bnx-title">{title}</figcaption>
<div class="bnx-controls" role="group" aria-label="Controls of this figure" hidden>{controls}
<button type="button" class="bnx-reset">Reset</button></div>
<p class="bnx-notice" role="status" hidden></p>
<div class="bnx-stage"><div class="bnx-still">{still}</div><div class="bnx-plot"></div></div>
<p class="bnx-print">{title} ({shown})</p>
{source}<script type="text/plain" class="bnx-states">{states}</script>
</figure>
"""


def _input_html(name: str, c: Control) -> str:
    """A native input; `data-texts` and `data-keys` hold the text and the key of each stop."""
    field, label = f"{name}-{c.name}", html.escape(c.label)
    stops = f'id="{field}" name="{c.name}" autocomplete="off" data-start="{c.start}" ' + " ".join(
        f'data-{what}="{html.escape(json.dumps(list(texts), ensure_ascii=False))}"'
        for what, texts in (("keys", c.keys), ("texts", c.texts))
    )
    if c.kind == "toggle":
        body = f'<input type="checkbox" {stops}{" checked" * c.start}><label for="{field}">{label}</label>'
    elif c.kind == "menu":
        options = "".join(f"<option{' selected' * (i == c.start)}>{html.escape(text)}</option>" for i, text in enumerate(c.texts))
        body = f'<label for="{field}">{label}</label><select {stops}>{options}</select>'
    else:
        text, last, width = html.escape(c.texts[c.start]), len(c.values) - 1, max(map(len, c.texts))
        body = (
            f'<label for="{field}">{label}</label>'
            f'<input type="range" min="0" max="{last}" step="1" value="{c.start}" aria-valuetext="{text}" {stops}>'
            f'<output for="{field}" style="min-width: {width}ch">{text}</output>'
        )
    return f'<div class="bnx-control bnx-{c.kind}">{body}</div>'


def _source_html(source: Source | None) -> str:
    """The line below a figure. The page's scripts give the links to records their addresses, and add what a reader may save."""
    facts = " · ".join(f"<span>{html.escape(fact)}</span>" for fact in source.line.split(" · ")) if source else ""
    parts = [f'<span class="bnx-line"><b>{html.escape(source.word)}</b> {facts}</span>'] if source else []
    if source and source.rerun:
        parts.append(f"<details><summary>rerun</summary><pre><code>{html.escape(source.rerun)}</code></pre></details>")
    if source and source.records:
        items = "".join(f'<li><a data-path="{html.escape(path)}">{html.escape(label)}</a></li>' for label, path in source.records)
        parts.append(f"<details><summary>{len(source.records)} record{'s' * (len(source.records) > 1)}</summary><ul>{items}</ul></details>")
    return f'<div class="bnx-source">{"".join(parts)}</div>\n'
