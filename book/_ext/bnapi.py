"""The directive `{api}`: the public names of bnlib's modules, as their source gives them. Nothing is imported.

    ```{api}
    :from: bnlib.records
    :to: bnlib.provenance
    ```

takes these modules and those between them, in the order of the layers in pyproject.toml.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Function = ast.FunctionDef | ast.AsyncFunctionDef
MARKS = {"property", "cached_property", "classmethod", "staticmethod", "contextmanager"}  # decorators that change how a name is used


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("api", Api)
    app.connect("html-page-context", dress_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def dress_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if "api-entry" in (context.get("body") or ""):
        app.add_css_file("api.css")


class Api(SphinxDirective):
    option_spec: ClassVar = {"from": directives.unchanged_required, "to": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "pyproject.toml"))
        order = layers(root)
        made = []
        for name in order[order.index(self.options["from"]) : order.index(self.options["to"]) + 1]:
            for path in sources(root, name):
                self.env.note_dependency(str(path))
                made.append(module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), path))
        return made


def layers(root: Path) -> list[str]:
    """bnlib's modules and packages from the top layer to the lowest, without the command line."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return [name for line in contracts[0]["layers"] for name in line.split(" | ") if not name.endswith("__main__")]


def sources(root: Path, name: str) -> list[Path]:
    """The file of a module, or the files of a package."""
    path = root.joinpath(*name.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def module(name: str, path: Path) -> nodes.section:
    """A section on one module."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    section = nodes.section("", nodes.title("", name), ids=[name.replace(".", "-").lower()], names=[name])
    section += prose(ast.get_docstring(tree) or "")
    named = [ast.literal_eval(s.value) for s in tree.body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "__all__"]
    if named:
        section += prose(f"To import from here: {', '.join(f'`{one}`' for one in sorted(named[0], key=str.lower))}.")
    for entry in members(tree.body, text.splitlines(), name):
        section += entry
    return section


def members(body: list[ast.stmt], lines: list[str], where: str) -> Iterator[nodes.container]:
    """The public functions and classes of a module, or the methods of a class; and constants with a docstring."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        name = getattr(statement, "name", "_")
        if isinstance(statement, Function) and not name.startswith("_"):
            yield entry(f"{where}.{name}", head(statement, lines), prose(ast.get_docstring(statement) or ""))
        elif isinstance(statement, ast.ClassDef) and not name.startswith("_"):
            held = fields(statement, lines)
            made = entry(f"{where}.{name}", "\n".join([head(statement, lines), *(f"    {written}" for written, _ in held)]), [])
            made += prose(ast.get_docstring(statement) or "")
            made += table([(written.partition(":")[0], said) for written, said in held if said])
            told = [method for method in statement.body if not isinstance(method, Function) or ast.get_docstring(method)]
            made += list(members(told, lines, f"{where}.{name}"))  # without those that only do what torch or Python asks for
            yield made
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and (said := literal(following)):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            yield entry(f"{where}.{ast.unparse(target)}", short(ast.unparse(statement)), prose(" ".join(said.split())))


def literal(statement: ast.stmt | None) -> str:
    """The text of a statement that is a text and nothing else, as below a constant that it explains."""
    constant = statement.value if isinstance(statement, ast.Expr) else None
    return str(constant.value) if isinstance(constant, ast.Constant) else ""


def head(statement: Function | ast.ClassDef, lines: list[str]) -> str:
    """The signature as it is written, shapes and all; `@property` and its like above it."""
    first = lines[statement.lineno - 1]
    indent = len(first) - len(first.lstrip())
    text = [line[indent:] for line in lines[statement.lineno - 1 : statement.body[0].lineno - 1]] or [first[indent:]]
    marks = [f"@{ast.unparse(d)}" for d in statement.decorator_list if ast.unparse(d) in MARKS]
    return "\n".join([*marks, broken(re.sub(r":\s*$", "", "\n".join(text).partition("#")[0].rstrip()))])


def broken(signature: str, width: int = 76) -> str:
    """A signature that is too long for a line, with a line for each argument."""
    signature = re.sub(r"\(\s+", "(", re.sub(r",?\s*\n\s*", lambda gap: ", " if "," in gap[0] else "", signature)).replace(", )", ")")
    start, depth, quoted, parts = signature.find("(") + 1, 0, False, [""]
    if len(signature) <= width or not start:
        return signature
    for i, letter in enumerate(signature[start:], start):
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "([") - (letter in ")]")
        if depth < 0:
            lines = "".join(f"    {part.strip()},\n" for part in parts)
            return f"{signature[:start]}\n{lines}{signature[i:]}"
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return signature


def fields(statement: ast.ClassDef, lines: list[str]) -> list[tuple[str, str]]:
    """The fields of a class: how each is declared, and what its help line or the comment behind it says."""
    held = []
    for item in statement.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            declared, default = f"{ast.unparse(item.target)}: {ast.unparse(item.annotation)}", item.value
            said = lines[(item.end_lineno or 1) - 1][item.end_col_offset :].partition("#")[2].strip()
            if isinstance(default, ast.Call) and ast.unparse(default.func) == "_help":
                said, default = ast.literal_eval(default.args[0]), default.args[1] if default.args[1:] else None
            elif isinstance(default, ast.Call):  # field(default_factory=…)
                default = next((word.value for word in default.keywords if word.arg == "default"), None)
            held.append((declared + (f" = {ast.unparse(default)}" if default else ""), said))
    return held


def short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def entry(name: str, signature: str, said: list[nodes.Node]) -> nodes.container:
    code = nodes.literal_block(signature, signature, language="python")
    return nodes.container("", code, *said, ids=[name.replace(".", "-").replace("_", "-").lower()], classes=["api-entry"])


def prose(docstring: str) -> list[nodes.Node]:
    """A docstring: its paragraphs; what is set out in two columns as a table; other lines that are set out stay as they are."""
    made: list[nodes.Node] = []
    for block in filter(None, docstring.split("\n\n")):
        lines = block.splitlines()
        if all(re.match(r"\S.*? {2,}\S|\s", line) for line in lines) and not lines[0][0].isspace():
            rows: list[tuple[str, str]] = []
            for line in lines:
                key, said = ("", line.strip()) if line[0].isspace() else re.split(" {2,}", line, maxsplit=1)
                rows = [*rows, (key, said)] if key else [*rows[:-1], (rows[-1][0], f"{rows[-1][1]} {said}")]
            made += table(rows)
        elif re.search(r"^\s|\S {2,}\S|^- ", block, flags=re.MULTILINE):
            made.append(nodes.literal_block(block, block, language="none"))
        else:
            made.append(nodes.paragraph("", "", *words(" ".join(lines))))
    return made


def table(rows: list[tuple[str, str]]) -> list[nodes.Node]:
    """Names and what they are, as a list of definitions."""
    items = [
        nodes.definition_list_item(
            "", nodes.term("", "", nodes.literal("", key)), nodes.definition("", nodes.paragraph("", "", *words(said)))
        )
        for key, said in rows
    ]
    return [nodes.definition_list("", *items)] if items else []


def words(text: str) -> list[nodes.Node]:
    """Text with `code` set as code."""
    return [nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(re.split(r"`([^`]+)`", text))]
