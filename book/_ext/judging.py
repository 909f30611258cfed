"""Verdicts in chapters: each leads to its claim on the page of verdicts, which says how it was judged, and from which records."""

import html
import re

from sphinx.errors import ExtensionError

VERDICT = re.compile(r"<strong>(Verdict: ([^<]+)\.)</strong>(.*?)</p>", flags=re.DOTALL)


def linked(body: str, page: str, ledger: dict[str, tuple[str, str]], verdicts: str) -> str:
    """A page with its verdicts linked to the address `verdicts`; `ledger` has the id and the verdict of each claim by its text.

    Raises ExtensionError on a verdict that is not the ledger's.
    """

    def link(found: re.Match[str]) -> str:
        said = _plain(re.sub("<[^>]+>", "", found[3]))
        claim = max((claim for claim in ledger if said.startswith(f"{_plain(claim)} ")), key=len, default=None)
        name, word = ledger[claim] if claim else ("", "")
        if word != found[2]:
            raise ExtensionError(f"{page} shows a verdict that is not the ledger's: {found[2]}. {said}")
        return f'<strong><a class="bn-word" data-word="{word}" href="{verdicts}#{name}">{found[1]}</a></strong>{found[3]}</p>'

    return VERDICT.sub(link, body) if ledger else body


def _plain(text: str) -> str:
    """Text without what typesetting changes: entities, apostrophes, line breaks."""
    return " ".join(html.unescape(text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
