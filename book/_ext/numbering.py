"""Figures numbered in the order of their page, and words that refer to them: {fig}`map` becomes a link that reads Figure 1."""

import re
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError

FIGURE = re.compile(r'(<figure class="bnx" id="([^"]+)"[^>]*>)')
REFERENCE = re.compile(r'<a class="bn-ref" href="#([^"]+)"></a>')


def reference(name: str, rawtext: str, text: str, lineno: int, inliner: Any, *_: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """The role `fig`: where the figure called `text` will be referred to, once its number is known."""
    if not re.fullmatch("[a-z][a-z0-9-]*", text):
        said = inliner.reporter.error(f"{{fig}}`{text}`: give the name of a figure of this page", line=lineno)
        return [inliner.problematic(rawtext, rawtext, said)], [said]
    return [nodes.raw("", f'<a class="bn-ref" href="#{text}"></a>', format="html")], []


def numbered(body: str, page: str, source: str = "") -> str:
    """A page with its figures numbered; one that its `source` names but does not show waits for records.

    Raises ExtensionError on a reference to any other.
    """
    numbers = {found[2]: k for k, found in enumerate(FIGURE.finditer(body), 1)}

    def refer(found: re.Match[str]) -> str:
        if found[1] not in numbers and re.search(rf'name=\\?"{found[1]}\\?"', source):  # of a cell, as it stands in a notebook's JSON
            return "the figure that is not measured yet"
        if found[1] not in numbers:
            raise ExtensionError(f"{page} refers to a figure {found[1]}; it has {', '.join(numbers) or 'none'}")
        return f'<a class="bn-ref" href="#{found[1]}">Figure\N{NO-BREAK SPACE}{numbers[found[1]]}</a>'

    body = REFERENCE.sub(refer, body)
    return FIGURE.sub(lambda found: f'{found[1]}<span class="bnx-number">Figure\N{NO-BREAK SPACE}{numbers[found[2]]}</span>', body)
