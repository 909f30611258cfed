"""The ledger is strict, every verdict follows from the records, and the chapters say the same."""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import chapters
import nbformat
import numpy as np
import pytest
import yaml
from browser import Watched
from chapters import PAGES, ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sphinx.errors import ExtensionError
from typer.testing import CliRunner

from bnlib import __main__ as cli
from bnlib import claims, records, studies
from bnlib.claims import ledger
from bnlib.claims.verdict import WORDS
from bnlib.config import ConfigError, ProductConfig, RunConfig
from bnlib.figures import verdicts
from bnlib.sweep import report

sys.path.append(str(ROOT / "book" / "_ext"))
import judging

RESULTS = ROOT / "results"
LEDGERS = ("book/index", "book/verdicts")  # pages that show all of it
ENTRIES = ledger.entries(RESULTS)
ENTRY = {
    "id": "a",
    "where": "Sec 1",
    "says": "Something.",
    "known": "read",
    "test": "law_holds",
    "studies": ["spectra"],
    "threshold": "all",
    "fixed": None,
    "chapter": "matrices",
    "figure": None,
    "seen": "trials",
}


@pytest.fixture(scope="module")
def judged() -> list[ledger.Judged]:
    return ledger.judge_all(RESULTS)


def source(chapter: str) -> str:
    notebook = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


# The ledger


def test_there_are_at_least_25_claims():
    assert len(ENTRIES) >= 25


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_a_claim_has_its_place_in_the_book(entry: ledger.Entry):
    assert f"book/{entry.chapter}" in PAGES
    code = source(entry.chapter)
    assert entry.figure is None or f'name="{entry.figure}"' in code
    assert entry.test is None or f"claims.{entry.test}(" in code, "the chapter does not show the verdict"


@pytest.mark.parametrize("page", PAGES)
def test_a_chapter_shows_the_ledgers_verdicts_and_no_others(page: str, judged: list[ledger.Judged]):
    """In the words of the ledger, though from the records that the chapter itself has loaded."""
    shown = {name: set(given) for name, given in chapters.verdicts(page).items()} if page not in LEDGERS else {}
    here = {one.entry.test: {one.verdict} for one in judged if one.entry.test and f"book/{one.entry.chapter}" == page}
    assert shown == here


def test_every_judge_has_its_claim():
    assert sorted(chapters.JUDGES) == sorted(entry.test for entry in ENTRIES if entry.test)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chaptre": "x"}, "claim a: unknown key 'chaptre'; a claim has id, where"),
        ({"known": "rumoured"}, "claim a: known is 'rumoured'; it must be one of read, digitised"),
        ({"test": "no_such"}, "claim a: bnlib.claims has no function 'no_such'"),
        ({"studies": ["nope"]}, "claim a: there is no study 'nope'; there are init"),
        ({"studies": "spectra"}, "claim a: studies must be a list, such as [init]"),
        ({"fixed": "soon"}, "claim a: fixed is 'soon'; write the day as"),
        ({"seen": "all"}, "claim a: seen is 'all'; it must be one of nothing, trials, records"),
        ({"seen": None}, "claim a: seen is None; it must be one of nothing"),
        ({"test": None}, "claim a: give either a test, or the reason why there is none in why_not"),
    ],
)
def test_a_mistake_gets_one_line_that_names_the_claim(changes: dict, message: str):
    with pytest.raises(ConfigError) as error:
        ledger.parse([ENTRY | changes])
    assert str(error.value).startswith(message)


def test_a_missing_key_and_a_second_claim_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="claim a: the key 'where' is missing"):
        ledger.parse([{key: value for key, value in ENTRY.items() if key != "where"}])
    with pytest.raises(ConfigError, match="claim a: there are two of this id"):
        ledger.parse([ENTRY, ENTRY])


@pytest.mark.parametrize("text", ["- id: a\n where: b", "a: b"])
def test_a_ledger_that_cannot_be_read_gets_one_line(tmp_path: Path, text: str):
    (tmp_path / "claims.yml").write_text(text)
    with pytest.raises(ConfigError, match=r"claims.yml (is not YAML|must be a list)") as error:
        ledger.entries(tmp_path / "results")
    assert "\n" not in str(error.value)


def test_verdicts_noted_down_that_cannot_be_read_get_one_line(tmp_path: Path):
    (tmp_path / "verdicts.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON: write it anew with bnlib claims --write"):
        ledger.changed([], tmp_path / "results")


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.seen in ("nothing", "trials")], ids=lambda entry: entry.id)
def test_what_was_fixed_without_records_is_older_than_they(entry: ledger.Entry):
    first = [min(record.time["start"] for record in found) for study in entry.studies if (found := claims.recorded(study, RESULTS))]
    assert not first or str(entry.fixed) <= max(first), "of its studies at least one was not there"


def test_the_table_of_what_had_been_seen_counts_each_decided_claim_once(judged: list[ledger.Judged]):
    rows = [[int(cell) for cell in re.findall(r"\| (\d+)", row)] for row in verdicts.by_seen(judged).splitlines()[2:]]
    assert [len(row) for row in rows] == [3, 3, 3]
    decided = [one.verdict.word for one in judged if one.verdict.word in ("reproduced", "partly", "not reproduced")]
    assert np.sum(rows, axis=0).tolist() == [decided.count(word) for word in ("reproduced", "partly", "not reproduced")]


# Verdicts


def test_a_claim_without_a_test_says_why():
    entry = ledger.parse([{key: value for key, value in ENTRY.items() if key not in ("test", "seen")} | {"why_not": "it is gone"}])[0]
    one = ledger.judge(entry, RESULTS)
    assert (one.verdict.word, one.verdict.because, one.records) == ("not testable here", "it is gone", ())


def test_every_verdict_is_the_one_last_looked_at(judged: list[ledger.Judged]):
    assert ledger.changed(judged, RESULTS) == []


def test_every_cited_record_exists(judged: list[ledger.Judged]):
    assert all(records.path_of(record.config, RESULTS).exists() for one in judged for record in one.records)


def test_a_decided_claim_has_three_seeds(judged: list[ledger.Judged]):
    decided = [one for one in judged if one.verdict.word in ("reproduced", "partly", "not reproduced")]
    assert decided
    assert min(one.seeds for one in decided) >= 3


def test_a_claim_cites_what_it_looked_at_and_nothing_else(judged: list[ledger.Judged]):
    growth = next(one for one in judged if one.entry.id == "growth-is-the-papers")
    assert {(r.config.model.norm, r.config.model.depth) for r in growth.records if r.config.model} == {("none", 110)}


@given(st.lists(st.lists(st.booleans(), min_size=0, max_size=6), min_size=1, max_size=4))
def test_without_three_seeds_nothing_is_reproduced(parts: list[list[bool]]):
    word = claims.decide(*(np.array(part, dtype=bool) for part in parts))
    seeds = min(len(part) for part in parts)
    assert (word in ("indicative", "not yet measured")) == (seeds < 3)
    assert seeds or word == "not yet measured"
    assert word != "indicative" or all(all(part) for part in parts)


# Two arms


def test_welchs_interval_is_that_of_the_textbook():
    a, b = np.array([93.1, 93.4, 92.9]), np.array([82.0, 81.1, 82.6, 81.9])
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 4
    freedom = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
    middle = a.mean() - b.mean()
    np.testing.assert_allclose(claims.welch(a, b), (middle, middle - half, middle + half))


def test_one_seed_gives_a_difference_but_no_interval():
    difference, low, high = claims.welch(np.array([3.0]), np.array([1.0, 2.0]))
    assert difference == 1.5
    assert np.isnan([low, high]).all()


def test_an_interval_in_words():
    a, b = np.array([93.1, 93.4, 92.9]), np.array([82.0, 81.1, 82.6])
    _, low, high = claims.welch(a, b)
    assert claims.interval(a, b) == f" (difference of the means: 95 % interval {low:.1f} to {high:.1f})"
    assert claims.interval(b, a) == f" (difference of the means: 95 % interval −{high:.1f} to −{low:.1f})"
    _, low, high = claims.welch(np.log(a), np.log(b))
    assert (
        claims.interval(a, b, ".3f", ratio=True)
        == f" (ratio of the geometric means: 95 % interval {np.exp(low):.3f} to {np.exp(high):.3f})"
    )
    wide = claims.interval(np.array([100.0, 120.0, 90.0]), np.array([6.0, 24.0, 3.0]), ".2g", ratio=True)
    assert wide.endswith(" 95 % interval 1 to 180)"), "and not 1.8e+02"
    assert claims.interval(a, np.array([1.0, np.inf, 2.0])) == claims.interval(a, b[:1]) == claims.interval(a, b - 82, ratio=True) == ""


@pytest.mark.parametrize(("b", "no_better"), [([82.0, 82.5, 81.5], True), ([80.2, 80.7, 79.7], False), ([83.9, 79.0, 82.0], False)])
def test_no_better_takes_means_that_are_near_and_certain(b: list[float], no_better: bool):
    a = np.array([82.1, 81.9, 82.0])
    assert claims.no_better(a, np.array(b), margin=2.0) is no_better


def test_seeds_that_agree_exactly_are_compared_without_a_warning():
    same = np.array([82.0, 82.0])
    assert claims.welch(same, same - 1) == (1.0, 1.0, 1.0)
    assert claims.no_better(same, same, 2.0)
    assert not claims.no_better(same + 3, same, 2.0)


# The command and the page


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["claims", *args])
    return done.exit_code, done.stdout


def test_the_command_lists_every_claim(judged: list[ledger.Judged]):
    status, out = run("--results", str(RESULTS), "--json")
    listed = json.loads(out)
    assert status == 0
    assert [set(one) for one in listed] == [{"id", "where", "claim", "verdict", "records"}] * len(judged)
    assert [one["verdict"] for one in listed] == [one.verdict.word for one in judged]


def test_a_verdict_that_changed_fails_until_it_is_noted(tmp_path: Path):
    for name in ("claims.yml", "verdicts.json"):
        (tmp_path / "book").mkdir(exist_ok=True)
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    kept = [entry for entry in yaml.safe_load((ROOT / "book" / "claims.yml").read_text()) if entry["id"] == "update-explodes"]
    (tmp_path / "book" / "claims.yml").write_text(yaml.safe_dump(kept))
    (tmp_path / "book" / "verdicts.json").write_text(json.dumps({"update-explodes": "not reproduced"}))
    shutil.copytree(RESULTS / "divergence", tmp_path / "results" / "divergence")
    at = ("--results", str(tmp_path / "results"))
    assert run(*at)[0] == 1
    assert run(*at, "--write")[0] == 0
    assert json.loads((tmp_path / "book" / "verdicts.json").read_text()) == {"update-explodes": "reproduced"}
    assert run(*at)[0] == 0


def test_the_place_of_a_claim_names_authors():
    assert verdicts.place("zhang2019fixup, de2020batch") == "Zhang 2019, De 2020"
    assert verdicts.place("Sec 3.1, Fig 7") == "Sec 3.1, Fig 7"


def test_the_page_escapes_what_it_shows():
    entry = ledger.parse([ENTRY | {"says": "a < b & c"}])[0]
    one = ledger.Judged(entry, claims.Verdict("c", "partly", "x < y"), ())
    assert "a &lt; b &amp; c" in verdicts.page([one])
    assert "X &lt; y." in verdicts.page([one])
    assert verdicts.by_chapter([one, dataclasses.replace(one)]).splitlines()[-1] == "| [Matrices](matrices) | 2 | 2 partly |"


def test_chapters_come_in_the_books_order(judged: list[ledger.Judged]):
    contents = [Path(part["file"]).name for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["chapters"]]
    assert list(verdicts.CHAPTERS) == [name for name in contents if name in verdicts.CHAPTERS]
    assert list(verdicts.counted(judged)) == list(verdicts.CHAPTERS), "each has claims, and no other has"
    rows = verdicts.by_chapter(judged).splitlines()[2:]
    assert [row.split("(")[1].split(")")[0] for row in rows] == list(verdicts.CHAPTERS)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_claims_can_be_filtered(width: int, built: Path, open_page: Callable[..., Watched], judged: list[ledger.Judged]):
    watched = open_page((built / "book" / "verdicts.html").as_uri(), viewport={"width": width, "height": 800})
    page = watched.page
    shown = page.locator(".bn-ledger > ol > li:visible")
    assert shown.count() == len(judged)
    page.get_by_label("verdict").select_option("partly")
    partly = sum(one.verdict.word == "partly" for one in judged)
    assert shown.count() == partly
    assert page.get_by_role("status").inner_text() == f"{partly} of {len(judged)} claims"
    page.get_by_label("verdict").select_option("")
    page.get_by_label("text").fill("Theorem 1 law")
    assert shown.evaluate_all("claims => claims.map(claim => claim.id)") == ["law-holds"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    watched.check()


def test_each_verdict_of_a_chapter_leads_to_its_claim(built: Path):
    rows = dict(re.findall(r'<li id="([^"]+)" data-verdict="([^"]+)"', (built / "book" / "verdicts.html").read_text()))
    reached = []
    for page in PAGES:
        text = (built / f"{page}.html").read_text()
        links = re.findall(
            r'<strong><a class="bn-word" data-word="[^"]+" href="verdicts\.html#([^"]+)">Verdict: ([^<]+)\.</a></strong>', text
        )
        assert len(links) == text.count("Verdict: ")
        assert [(name, rows[name]) for name, _ in links] == links
        reached += [(name, page) for name, _ in links]
    assert sorted(reached) == sorted((entry.id, f"book/{entry.chapter}") for entry in ENTRIES if entry.test)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_claim_that_a_verdict_leads_to_is_in_view_and_marked(width: int, built: Path, open_page: Callable[..., Watched]):
    watched = open_page((built / "book" / "variants.html").as_uri(), viewport={"width": width, "height": 740})
    page = watched.page
    link = page.locator("a.bn-word").last
    word = link.inner_text()
    link.click()
    row = page.locator("li:target")
    row.wait_for()
    assert f"Verdict: {row.get_attribute('data-verdict')}." == word
    assert page.locator(".bd-header-article").bounding_box()["height"] <= row.bounding_box()["y"] < 370
    assert page.locator(".bn-ledger > ol > li").evaluate_all("rows => rows.filter((row) => row.clientLeft).map((row) => row.id)") == [
        row.get_attribute("id")
    ]
    watched.check()


def test_a_verdict_that_is_not_the_ledgers_fails_the_build():
    ledger = {"A paper's claim.": ("a", "partly"), "A paper's claim. And more.": ("b", "partly")}
    body = "<p><strong>Verdict: {}.</strong> A paper’s claim. Because\n<em>x</em> &lt; 1.</p>"
    linked = judging.linked(body.format("partly"), "page", ledger, "verdicts.html")
    assert linked.startswith(
        '<p><strong><a class="bn-word" data-word="partly" href="verdicts.html#a">Verdict: partly.</a></strong> A paper’s'
    )
    assert "verdicts.html#b" in judging.linked(body.format("partly").replace("claim.", "claim. And more."), "page", ledger, "verdicts.html")
    assert judging.linked(body, "page", {}, "") == body, "a book without a ledger"
    for wrong in (body.format("reproduced"), body.format("partly").replace("A paper", "Another paper")):
        with pytest.raises(ExtensionError, match="page shows a verdict that is not the ledger's: "):
            judging.linked(wrong, "page", ledger, "verdicts.html")


def test_the_checks_are_made_at_the_build(built: Path, open_page: Callable[..., Watched], judged: list[ledger.Judged]):
    page = open_page((built / "book" / "how-made.html").as_uri()).page
    count = sum(1 for _ in RESULTS.rglob("*.json"))
    checks = page.locator(".bn-checks")
    assert f"{count} read and verified, 0 problems" in checks.inner_text()
    assert f"{len(judged)} claims judged anew" in checks.inner_text()
    assert re.search(r"from \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d", checks.inner_text())
    assert re.search(r"\d{4}-\d\d-\d\d, from commit \w+", checks.inner_text())


def test_what_the_records_were_made_with_names_the_studies_of_each():
    def record(study: str, torch: str, **data: str) -> records.Record:
        env = dict.fromkeys(("python", "numpy", "scipy"), "1") | {"torch": torch, "threads": 1}
        config = RunConfig(study, 0, product=ProductConfig(1, 2))
        hardware, code, time = {"name": "this", "cores": 2}, {"commit": "0123456789", "dirty": True}, {"start": "2026-11-27T10:00:00Z"}
        return records.Record(config, "completed", {}, data, code, env, hardware, time)

    made = report.made_with([record("b", "2"), record("a", "2"), record("a", "1", variant="synthetic", fingerprint="f" * 64)])
    assert made["torch"] == {"1": ["a"], "2": ["a", "b"]}
    assert made["images"] == {"none": ["a", "b"], f"synthetic, fingerprint {'f' * 12}": ["a"]}
    assert made["commit"] == {"0123456+": ["a", "b"]}
    assert (made["hardware"], made["day"]) == ({"this, 2 cores": ["a", "b"]}, {"2026-11-27": ["a", "b"]})


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.7])
def test_every_claim_has_a_verdict_whatever_records_there_are(share: float, monkeypatch: pytest.MonkeyPatch):
    """Of all records each is there with this chance: arms without runs, seeds that one arm has and the other has not."""
    rng = np.random.default_rng(0)
    some = {study: [record for record in claims.recorded(study, RESULTS) if rng.random() < share] for study in studies.STUDIES}
    monkeypatch.setattr(ledger, "_recorded", lambda study, root: some[study])
    verdicts = [ledger.judge(entry, RESULTS).verdict for entry in ENTRIES]
    assert {verdict.word for verdict in verdicts} <= set(WORDS)
    assert all(verdict.because for verdict in verdicts)
    if not share:
        assert {verdict.word for verdict in verdicts} == {"not yet measured", "not testable here"}
