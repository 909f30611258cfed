"""The page of the library: every module is there, and each public name with its signature as it is written."""

import ast
import re
import sys

import pytest
from chapters import ROOT
from docutils import nodes

sys.path.append(str(ROOT / "book" / "_ext"))
import bnapi

LAYERS = bnapi.layers(ROOT)
FILES = {path for name in LAYERS for path in bnapi.sources(ROOT, name)}


def test_every_module_has_a_layer():
    modules = {path for path in (ROOT / "bnlib").rglob("*.py") if path.name != "__main__.py" and path.parent.name != "results"}
    assert modules - {ROOT / "bnlib" / "__init__.py"} == FILES


def test_the_page_names_every_layer_once():
    ends = re.findall(r":from: (\S+)\n:to: (\S+)", (ROOT / "book" / "api.md").read_text())
    shown = [name for first, last in ends for name in LAYERS[LAYERS.index(first) : LAYERS.index(last) + 1]]
    assert shown == LAYERS


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: path.stem)
def test_each_public_name_is_there_and_says_what_it_is(path):
    text = path.read_text()
    tree = ast.parse(text)
    entries = [node for node in bnapi.module("m", path).findall(nodes.container) if "api-entry" in node["classes"]]
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    assert {f"m-{node.name}".replace("_", "-").lower() for node in public} <= {entry["ids"][0] for entry in entries}
    assert [entry["ids"] for entry in entries if len(entry) < 2] == [], "these have no docstring"
    for node in public:
        shown = ast.parse(bnapi.head(node, text.splitlines()) + ": ...").body[0]
        assert ast.unparse(getattr(shown, "args", shown)) == ast.unparse(getattr(node, "args", shown))


def test_what_is_set_out_in_columns_becomes_a_table():
    (made,) = bnapi.prose("loss      the mean\nln_std    of the channels,\n          by layer, in `nats`")
    assert isinstance(made, nodes.definition_list)
    assert [item.astext().split("\n\n") for item in made] == [["loss", "the mean"], ["ln_std", "of the channels, by layer, in nats"]]


def test_a_long_signature_takes_a_line_for_each_argument():
    assert bnapi.broken('def f(\n    x: Float[Tensor, "a b"], y: int = 1\n) -> int') == 'def f(x: Float[Tensor, "a b"], y: int = 1) -> int'
    assert bnapi.broken('def f(x: Float[Tensor, "a, b"], y: dict[str, int]) -> int', 20) == (
        'def f(\n    x: Float[Tensor, "a, b"],\n    y: dict[str, int],\n) -> int'
    )
