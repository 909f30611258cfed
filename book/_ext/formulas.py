"""Formulas for browsers without scripts: as MathML, beside MathJax's."""

import html
import re

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml

# What docutils does not know of TeX, and what comes near enough.
PLAINER = (
    (r"\\[bB]igg?[lrm]?(?![a-z])", ""),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\operatorname", r"\\mathrm"),
    (r"{split}", "{aligned}"),
    (r"\\([td]?frac)(\d)(\d)", r"\\\1{\2}{\3}"),
)


def with_mathml(body: str) -> str:
    """A page whose formulas stand in it a second time, as MathML, for browsers without scripts."""
    formula = re.compile(r'<(span|div) class="math notranslate nohighlight"[^>]*>(.*?)</\1>', re.DOTALL)

    def twice(found: re.Match[str]) -> str:
        block = found[1] == "div"
        formula = mathml(html.unescape(found[2]), block)
        room = f'<div class="bn-formula">{formula}</div>' if block else formula  # wide ones scroll in it
        return f"{found[0]}<noscript>{room}</noscript>"

    return formula.sub(twice, body)


def mathml(tex: str, block: bool) -> str:
    """A formula of MathJax as MathML; as it is written where docutils cannot translate it."""
    number = "".join(f"({n})" for n in re.findall(r'class="eqno">\((\d+)\)', tex))
    tex = re.sub(r"<span.*?</span>", "", tex, flags=re.DOTALL).strip()
    tex = tex.removeprefix(r"\(").removesuffix(r"\)").removeprefix(r"\[").removesuffix(r"\]").strip()
    for unknown, known in PLAINER:
        tex = re.sub(unknown, known, tex)
    try:
        return tex2mathml(tex, as_block=block) + number
    except (MathError, AttributeError, SyntaxError):
        return f"<code>{html.escape(tex)}</code>{number}"
