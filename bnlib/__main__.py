"""The command line: `bnlib data | sweep | status | verify | claims | export | import`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bnlib import data, files, records, studies
from bnlib import sweep as sweeps
from bnlib.claims import ledger
from bnlib.config import ConfigError, DataConfig
from bnlib.sweep import executors, report, transfer
from bnlib.sweep.bars import Bars, verdict

HELP = """Measure the claims of 'Understanding Batch Normalization'.

To begin with: `bnlib status` says what is measured, `bnlib sweep STUDY --dry-run` what is missing, `bnlib sweep STUDY` measures it.
`bnlib --install-completion` teaches your shell the commands and their options. Exit status: 0; 1, something is wrong or failed;
2, a mistake in what was typed; 130, interrupted."""
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
console = Console(stderr=True)

Results = Annotated[Path | None, typer.Option("--results", help="Results folder; else $BNLIB_RESULTS, else ./results or one above.")]
Data = Annotated[Path | None, typer.Option("--data", help="CIFAR-10: a folder or an .npz; else $BNLIB_DATA.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _studies() -> list[str]:
    return list(studies.STUDIES)


def _engines() -> list[str]:
    return list(executors.ENGINES)


@app.command("data")
def images(
    download: Annotated[Path | None, typer.Option("--download", help="Fetch CIFAR-10 into this folder, checksum verified.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the images to this .npz, which loads in under a second.")] = None,
    data_path: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say which images are at hand; fetch CIFAR-10, or convert it to one .npz."""
    if download is not None:
        files.download(download)
    dataset = data.load(DataConfig(), data_path or download)
    if save is not None:
        data.save(dataset, save)
    if as_json:
        sizes = {"train": len(dataset.x_train), "test": len(dataset.x_test)}
        typer.echo(json.dumps({"variant": dataset.variant, **sizes, "fingerprint": dataset.fingerprint}, indent=1))
        return
    counts = f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test images"
    typer.echo(f"{dataset.variant}: {counts}, fingerprint {dataset.fingerprint[:12]}")


@app.command()
def sweep(
    study: Annotated[str, typer.Argument(help=f"One of: {', '.join(studies.STUDIES)}.", autocompletion=_studies)],
    budget: Annotated[str | None, typer.Option(help="Stop after this time, saving what is begun: 90s, 9m, 1.5h.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; on this machine else one a core, or --per-gpu.")] = None,
    per_gpu: Annotated[str, typer.Option(help="Runs at a time on a GPU, or auto: as many as it holds, eight at most.")] = "1",
    executor: Annotated[str, typer.Option(help=f"One of: {', '.join(executors.ENGINES)}.", autocompletion=_engines)] = "local",
    address: Annotated[str | None, typer.Option(help="Of dask's scheduler; or submitit's cluster, else slurm.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Just the runs with this setting, key=value; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what is missing.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    results: Results = None,
    data_path: Data = None,
    as_json: AsJson = False,
) -> None:
    """Do the missing runs of a study, resume those that were begun, and write their records."""
    chosen = studies.get(study).only(_settings(only or []))
    limit = None if budget is None else sweeps.seconds(budget)
    executors.check(executor, address, device)
    root = records.results_dir(results)
    missing = chosen.missing(root)  # refuses settings that no run has, before anything is written
    if dry_run:
        listed = [{"run_id": run.run_id, "config": run.to_dict()} for run in missing]
        for entry in [] if as_json else listed:
            typer.echo(f"{entry['run_id']} {json.dumps(entry['config'])}")
        if as_json:
            typer.echo(json.dumps({"study": chosen.name, "missing": listed}, indent=1))
        return
    if (executor == "submitit" or (executor == "dask" and address)) and workers is None:  # which need not be where this runs
        raise ConfigError(f"--executor {executor}: say with --workers how many runs at a time")
    records.own(root)
    many = workers or executors.at_a_time(chosen.device(device), per_gpu)
    try:
        with Bars(chosen, root, console, quiet=as_json) as bars:
            summary = sweeps.sweep(chosen, root, many, executor, address, limit, data_path, device, bars.listener)
    except KeyboardInterrupt:  # the second: local workers notice that they are alone, and save
        os._exit(130)
    if as_json:
        typer.echo(json.dumps(_report(chosen, summary), indent=1))
    elif summary.refused:
        typer.echo(f"bnlib: {summary.refused}", err=True)
    else:
        typer.echo(verdict(chosen, summary))
    if summary.interrupted:
        raise typer.Exit(130)
    if summary.refused or summary.count("failed") or summary.count("lost"):
        raise typer.Exit(1)


def _report(study: studies.Study, summary: sweeps.Summary) -> dict[str, Any]:
    """A sweep as JSON: its counts, what came of each run it took up, and the runs that remain."""
    return {
        "study": study.name,
        "there": summary.there,
        "runs": {run_id: {"outcome": outcome.kind, "text": outcome.text} for run_id, outcome in summary.outcomes.items()},
        "remaining": [run.run_id for run in summary.remaining],
        "begun": summary.begun,
        "interrupted": summary.interrupted,
        "refused": summary.refused,
    }


@app.command()
def verify(results: Results = None, as_json: AsJson = False) -> None:
    """Check every record: form, identity, data, and each byte. Exit status 1 names what is wrong and where."""
    root = records.results_dir(results)
    problems = records.verify(root)
    count = sum(1 for path in root.rglob("*.json") if records.UNFINISHED not in path.parts)
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
    """For each study: runs planned, completed, diverged, failed, missing; hours spent and on what; hours to go on this machine."""
    root = records.results_dir(results)
    rows = [report.of_study(study, root) for study in studies.STUDIES.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, padding=(0, 1))
    for key in [key for key in rows[0] if key != "hardware"]:
        table.add_column(key.replace("_", " "), justify="left" if key == "study" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*("?" if value is None else str(value) for key, value in row.items() if key != "hardware"))
    Console().print(table)
    for name in sorted({name for row in rows for name in row["hardware"]}):
        typer.echo(f"{name}: {', '.join(row['study'] for row in rows if name in row['hardware'])}")


@app.command("claims")
def judge(
    results: Results = None,
    as_json: AsJson = False,
    write: Annotated[bool, typer.Option("--write", help="Note the verdicts as they are now in book/verdicts.json.")] = False,
) -> None:
    """Judge every claim of book/claims.yml by the records. Exit status 1 names the verdicts that are no longer those last noted."""
    root = records.results_dir(results)
    judged = ledger.judge_all(root)
    if write:
        ledger.write(judged, root)
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in judged], indent=1))
    else:
        table = Table("claim", "where", "verdict", "seeds", "records", box=None, padding=(0, 1))
        for one in judged:
            table.add_row(one.entry.id, one.entry.where, one.verdict.word, str(one.seeds), str(len(one.records)))
        Console().print(table)
    different = ledger.changed(judged, root)
    for line in different:
        typer.echo(line, err=True)
    if different:
        typer.echo("bnlib: look at these verdicts; if they are right, note them with bnlib claims --write", err=True)
        raise typer.Exit(1)


@app.command("export")
def export(folder: Annotated[Path, typer.Argument(help="Where to.")], results: Results = None, as_json: AsJson = False) -> None:
    """Copy all records and runs in progress into a folder, to take them to another machine."""
    _tell(transfer.export(records.results_dir(results), folder), f"into {folder}", as_json)


@app.command("import")
def take_in(
    folder: Annotated[Path, typer.Argument(help="What `bnlib export` wrote.")], results: Results = None, as_json: AsJson = False
) -> None:
    """Copy records and runs in progress from a folder, after checking each. Exit status 1 names what was refused."""
    _tell(transfer.take_in(folder, records.own(records.results_dir(results))), f"from {folder}", as_json)


def _tell(moved: transfer.Moved, where: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"copied": moved.copied, "there": moved.there, "problems": moved.problems}, indent=1))
    else:
        for problem in moved.problems:
            typer.echo(problem, err=True)
        typer.echo(f"{moved.copied} files copied {where}, {moved.there} were there, {len(moved.problems)} refused")
    if moved.problems:
        raise typer.Exit(1)


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
