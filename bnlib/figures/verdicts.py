"""The ledger as a page shows it: all claims with what they came to, to be filtered, and the short table of the first page."""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from bnlib.claims.ledger import KNOWN, SEEN, Judged
from bnlib.claims.verdict import WORDS

RESULTS = "../_static/results"  # of the built book, as seen from a chapter
CHAPTERS = (  # that have claims, in the book's order
    "setting",
    "learning-rates",
    "divergence",
    "activations",
    "gradients",
    "matrices",
    "depth",
    "generalisation",
    "variants",
    "laboratory",
    "bridge",
    "since-2018",
)


def title(chapter: str) -> str:
    """A chapter's name, after its file."""
    return chapter.replace("-", " ").capitalize()


def place(where: str) -> str:
    """Where a claim is made, with citation keys such as yang2019mean as Yang 2019."""
    return re.sub(r"\b([a-z]+)(\d{4})[a-z]+\b", lambda key: f"{key[1].capitalize()} {key[2]}", where)


def badge(word: str, text: str, link: str = "") -> str:
    """A verdict's word as HTML, to which the book's style gives a sign and a colour; with a link, one that leads there."""
    return (
        f'<a class="bn-word" data-word="{word}" href="{link}">{text}</a>' if link else f'<b class="bn-word" data-word="{word}">{text}</b>'
    )


def counted(judged: Sequence[Judged]) -> dict[str, Counter[str]]:
    """Of each chapter that has claims, in the book's order, how many came to what."""
    found: dict[str, Counter[str]] = {name: Counter() for name in CHAPTERS}
    for one in judged:
        found.setdefault(one.entry.chapter, Counter())[one.verdict.word] += 1
    return {name: words for name, words in found.items() if words}


def page(judged: Sequence[Judged]) -> str:
    """Every claim, as HTML. A script makes the filters work; without it they do not show."""
    words = Counter(one.verdict.word for one in judged)
    return (
        '<div class="bn-ledger"><p>'
        + " ".join(badge(word, f"{words[word]} {word}") for word in WORDS if words[word])
        + "</p><form hidden>"
        + _menu("verdict", "verdict", [(word, f"{word} ({words[word]})") for word in WORDS if words[word]])
        + _menu("chapter", "chapter", [(name, f"{title(name)} ({found.total()})") for name, found in counted(judged).items()])
        + '<label>text <input type="search" name="text"></label></form>'
        + f'<p role="status">{len(judged)} claims</p><ol>'
        + "".join(_claim(one) for one in judged)
        + "</ol></div>"
    )


def _menu(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{html.escape(value)}">{html.escape(text)}</option>' for value, text in options)
    return f'<label>{label} <select name="{name}"><option value="">all</option>{shown}</select></label>'


def _claim(one: Judged) -> str:
    entry, verdict = one.entry, one.verdict
    link = f"{entry.chapter}.html" + (f"#{entry.figure}" if entry.figure else "")
    links = "".join(
        f'<li><a href="{RESULTS}/{r.config.study}/{r.config.run_id}.json">{r.config.study} {r.config.run_id}</a></li>' for r in one.records
    )
    held_by = f"{len(one.records)} record{'s' * (len(one.records) != 1)}, {one.seeds} seed{'s' * (one.seeds != 1)}"
    facts = [
        ("how surely it is claimed", KNOWN[entry.known]),
        *([("what decides", entry.threshold), ("fixed", f"{entry.fixed}, {SEEN[entry.seen]}")] if entry.seen else []),
    ]
    terms = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts)
    held = f"<details><summary>{held_by}</summary><ul>{links}</ul></details>" if one.records else ""
    return (
        f'<li id="{entry.id}" data-verdict="{verdict.word}" data-chapter="{entry.chapter}">'
        f"<p>{badge(verdict.word, verdict.word)} {html.escape(entry.says)} "
        f'<a href="{link}">{html.escape(title(entry.chapter))}</a> <span class="bn-because">{html.escape(place(entry.where))}</span></p>'
        f'<p class="bn-because">{html.escape(verdict.reason)}</p>'
        f"<details><summary>how it is judged</summary><dl>{terms}</dl></details>{held}</li>"
    )


def in_short(judged: Sequence[Judged], statements: Mapping[str, Mapping[str, str]]) -> str:
    """A Markdown list: below each statement the verdicts on some claims, given by id, that it rests on, in words of fewer letters."""
    words = {one.entry.id: one.verdict.word for one in judged}
    lines = []
    for number, (statement, claims) in enumerate(statements.items(), start=1):
        lines.append(f"{number}. {statement}\n")
        lines += [f"   - {badge(words[name], words[name], f'verdicts.html#{name}')} {text}" for name, text in claims.items()]
        lines.append("")
    return "\n".join(lines)


def by_seen(judged: Sequence[Judged]) -> str:
    """A Markdown table: what came of the claims by what had been seen when their thresholds were fixed; only of those that are decided."""
    words, rows = WORDS[:3], []  # those that decide
    for seen, text in SEEN.items():
        found = Counter(one.verdict.word for one in judged if one.entry.seen == seen)
        rows.append(f"| {text} | {' | '.join(str(found[word]) for word in words)} |")
    return "\n".join([f"| threshold fixed | {' | '.join(words)} |", "|---|---|---|---|", *rows])


def by_chapter(judged: Sequence[Judged]) -> str:
    """A Markdown table: for each chapter, in the book's order, how many of its claims came to what."""
    rows = []
    for name, words in counted(judged).items():
        came = ", ".join(f"{words[word]} {word}" for word in WORDS if words[word])
        rows.append(f"| [{title(name)}]({name}) | {words.total()} | {came} |")
    return "\n".join(["| chapter | claims | came to |", "|---|---|---|", *rows])
