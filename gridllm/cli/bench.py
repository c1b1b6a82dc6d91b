"""``gridllm bench``: what this machine reaches of a grid's minimums, without an authority."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from gridllm.admission.examination.candidacy import Candidacy
    from gridllm.admission.examination.stages import Examined
    from gridllm.charter.minimums import Admission
    from gridllm.cli.bench_subject import Subject
    from gridllm.cli.bench_view import Situation

LOAD_S: Final = 0.5  # for how long the processors are watched before


def bench(
    model: Annotated[
        str | None, typer.Option(help="Model to compute with; the default is the grid's first, or demo.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Folder with the model's files, if this machine has them.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory to measure, like 4GiB; default: what is free.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: the best available.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: the charter's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to compute with.")] = None,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure this machine as the grid's authorities would, and compare it with each minimum.

    The connection is left out: only another machine can measure it. If no grid was joined, the model is demo and the
    minimums are a new grid's defaults. Exits with 1 if this machine qualifies for no role.

    Example: gridllm bench --memory 4GiB
    """
    from gridllm.charter.minimums import ROLES
    from gridllm.cli.bench_subject import find_subject
    from gridllm.cli.compute import device_of, dtype_of
    from gridllm.cli.runtime import run_async
    from gridllm.cli.work import step
    from gridllm.errors import AdmissionError
    from gridllm.quantities import parse_size
    from gridllm.settings import load_settings

    settings = load_settings(threads=threads, device=device, dtype=dtype)
    memory_bytes = None if memory is None else parse_size(memory)
    with step("Looking for the model's shape"):
        subject = find_subject(settings, grid, model, path)

        from gridllm.node.machine import candidacy_here  # imports torch: after what can be said at once
        from gridllm.node.source import local_folder

        candidacy = candidacy_here(
            subject.entry,
            subject.manifest,
            dtype=dtype_of(settings, subject.entry),
            device=device_of(settings),
            roles=ROLES,
            memory_bytes=memory_bytes,
            cache_dir=settings.cache_dir,
            folder=local_folder(subject.entry, path),
            asked_bytes=max(subject.admission.of(role).memory_bytes for role in ROLES),
        )
    situation = situation_of(candidacy)
    try:
        examined = run_async(_measure(candidacy, subject.admission))
    except AdmissionError as error:
        if not as_json:
            raise
        _print_fault(subject, situation, "unable", str(error))
        raise typer.Exit(1) from error
    if not _show(subject, situation, examined, as_json=as_json):
        raise typer.Exit(1)


def situation_of(candidacy: Candidacy) -> Situation:
    """What ``candidacy`` is measured with; watches for half a second what others use of the processors."""
    import psutil
    import torch

    from gridllm.cli.bench_view import Situation
    from gridllm.node.memory import free_bytes

    return Situation(
        model=candidacy.entry.name,
        dtype=candidacy.dtype,
        device=candidacy.device,
        threads=candidacy.threads,
        processors=psutil.cpu_count() or 1,
        busy_share=psutil.cpu_percent(interval=LOAD_S) / 100,
        memory_bytes=candidacy.memory_bytes,
        free_bytes=free_bytes(candidacy.device),
        gpu=candidacy.device == "cpu" and torch.cuda.is_available(),
    )


async def _measure(candidacy: Candidacy, admission: Admission) -> Examined:
    from gridllm.admission.examination.local import examine_here
    from gridllm.cli.examination_view import make_watcher
    from gridllm.cli.show import stderr

    watcher = make_watcher(stderr())
    try:
        return await examine_here(candidacy, watcher, admission=admission)
    finally:
        watcher.close()


def _show(subject: Subject, situation: Situation, examined: Examined, *, as_json: bool) -> bool:
    """Table or JSON; whether some role is reached.

    Raises:
        AdmissionError: what this machine computed or held is wrong.
    """
    from gridllm.admission.examination.judge import TOO_LITTLE
    from gridllm.cli.bench_view import NETWORK, bench_json, bench_table, remedies, role_states, rows_of, summary
    from gridllm.cli.show import print_json, stdout
    from gridllm.errors import AdmissionError

    if examined.reason and examined.reason not in TOO_LITTLE:
        if as_json:
            _print_fault(subject, situation, examined.reason, examined.text)
            return False
        raise AdmissionError(f"An authority would not admit this machine ({examined.reason}): {examined.text}")
    rows = rows_of(examined.figures, subject.admission, unknown=NETWORK)
    fixes = remedies(rows, situation)
    if as_json:
        print_json({"grid": subject.grid} | bench_json(rows, examined.figures, fixes, situation))
    else:
        console = stdout()
        of = f"the grid {subject.grid_name}" if subject.grid_name else "a new grid's defaults (none is joined yet)"
        console.print(f"{situation.model} in {situation.dtype} on {situation.device}, beside the minimums of {of}:\n")
        console.print(bench_table(rows, examined.figures), crop=False)
        console.print(f"\n{summary(rows)}", markup=False)
        for sentence in fixes:
            console.print(f"  • {sentence}", markup=False)
    return "met" in role_states(rows).values()


def _print_fault(subject: Subject, situation: Situation, reason: str, text: str) -> None:
    """For programs: there are no figures, and why. ``reason`` is a word of ``judge.Reason``, or unable."""
    from gridllm.cli.show import print_json

    print_json({"grid": subject.grid, "model": situation.model, "reason": reason, "text": text})
