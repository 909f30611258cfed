"""How to cite the book, from CITATION.cff."""

from typing import Any


def bibtex(citation: dict[str, Any], version: str, commit: str) -> str:
    """The book and the paper that it reproduces, from CITATION.cff."""

    def authors(people: list[dict[str, str]]) -> str:
        return " and ".join(f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}" for one in people)

    def entry(kind: str, key: str, **fields: Any) -> str:
        return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"

    book = entry(
        "software", "bnlib", author=authors(citation["authors"]), title=citation["title"], version=version, note=f"commit {commit}"
    )
    papers = [
        entry(
            "inproceedings",
            f"{paper['authors'][0]['family-names'].lower()}{paper['year']}",
            author=authors(paper["authors"]),
            title=paper["title"],
            booktitle=paper["collection-title"],
            volume=paper["volume"],
            pages=f"{paper['start']}--{paper['end']}",
            year=paper["year"],
        )
        for paper in citation["references"]
    ]
    return "\n\n".join([book, *papers])
