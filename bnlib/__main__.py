"""The command line: `bnlib data | probe | verify | status`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bnlib import data, files, records, studies
from bnlib.config import ConfigError, DataConfig

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Measure the claims of 'Understanding Batch Normalization'.")
console = Console(stderr=True)

Results = Annotated[Path | None, typer.Option("--results", help="Results folder; else $BNLIB_RESULTS, else ./results or one above.")]
Data = Annotated[Path | None, typer.Option("--data", help="CIFAR-10: a folder or an .npz; else $BNLIB_DATA.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("data")
def images(
    download: Annotated[Path | None, typer.Option("--download", help="Fetch CIFAR-10 into this folder, checksum verified.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the images to this .npz, which loads in under a second.")] = None,
    data_path: Data = None,
) -> None:
    """Say which images are at hand; fetch CIFAR-10, or convert it to one .npz."""
    if download is not None:
        files.download(download)
    dataset = data.load(DataConfig(), data_path or download)
    if save is not None:
        data.save(dataset, save)
    counts = f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test images"
    typer.echo(f"{dataset.variant}: {counts}, fingerprint {dataset.fingerprint[:12]}")


@app.command()
def probe(
    study: Annotated[str, typer.Argument(help=f"One of: {', '.join(studies.STUDIES)}.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Just the runs with this setting, key=value; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what is missing.")] = False,
    results: Results = None,
    data_path: Data = None,
) -> None:
    """Measure the runs of a study that have no record yet, and write their records."""
    chosen = studies.get(study).only(_settings(only or []))
    root = records.results_dir(results)
    todo = chosen.missing(root)
    if dry_run:
        for run in todo:
            typer.echo(f"{run.run_id} {json.dumps(run.to_dict())}")
        return
    dataset = data.load(DataConfig(), data_path) if todo and chosen.needs_data else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(study, total=len(todo))
        for run in todo:
            path = studies.measure(chosen, run, dataset, root)
            progress.advance(task)
            if not console.is_terminal:
                typer.echo(f"{path.name} written")
    typer.echo(f"{study}: {len(chosen.runs) - len(todo)} records were there, {len(todo)} made")


@app.command()
def verify(results: Results = None, as_json: AsJson = False) -> None:
    """Check every record: form, identity, data, and each byte. Exit status 1 names what is wrong and where."""
    root = records.results_dir(results)
    problems = records.verify(root)
    count = sum(1 for _ in root.rglob("*.json"))
    if as_json:
        typer.echo(json.dumps({"records": count, "problems": problems}, indent=1))
    else:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{count} records, {len(problems)} problems")
    if problems:
        raise typer.Exit(1)


@app.command()
def status(results: Results = None, as_json: AsJson = False) -> None:
    """For each study: runs planned, completed, diverged, failed, missing, and the hours and hardware they took."""
    root = records.results_dir(results)
    rows = [_status_of(study, root) for study in studies.STUDIES.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    Console().print(table)


def _status_of(study: studies.Study, root: Path) -> dict[str, Any]:
    paths = [records.path_of(run, root) for run in study.runs]
    done = [records.load(path) for path in paths if path.exists()]
    kinds = [record.status.partition("@")[0] for record in done]
    return {
        "study": study.name,
        "planned": len(paths),
        **{kind: kinds.count(kind) for kind in ("completed", "diverged", "failed")},
        "missing": len(paths) - len(done),
        "hours": round(sum(record.time["seconds"] for record in done) / 3600, 3),
        "hardware": sorted({record.hardware["name"] for record in done}),
    }


def _settings(pairs: list[str]) -> dict[str, Any]:
    where = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--only {pair}: write it as key=value, such as depth=110")
        try:
            where[key] = json.loads(value)
        except ValueError:
            where[key] = value  # a word, such as norm=none
    return where


def main() -> None:
    """Run the command line; what a user can get wrong becomes one line and exit status 2 (settings) or 1."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_say(error, 2))
    except ValueError as error:
        if not type(error).__module__.startswith("bnlib."):
            raise
        sys.exit(_say(error, 1))


def _say(error: Exception, status: int) -> int:
    typer.echo(f"bnlib: {error}", err=True)
    return status


if __name__ == "__main__":
    main()
