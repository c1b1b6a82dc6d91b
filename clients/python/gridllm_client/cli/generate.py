"""``gridllm generate``: text from the grid, as it comes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm_client.cli.show import Progress
    from gridllm_client.generation import Generation
    from gridllm_client.grid import Grid
    from gridllm_client.model import GridModel
    from gridllm_client.prompts import Prompt, Wishes
    from gridllm_client.terms import ChainEvent


def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from the standard input.")],
    model: Annotated[
        str | None, typer.Option(help="Model to use, or @champion; the default is the grid's first.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Generate at most this many tokens.")] = 128,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0: always the likeliest token; higher: more random. Default: the model's."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Sample from the likeliest tokens that together have this probability."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Sample from this many of the likeliest tokens; 0: all.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: repeat less.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be repeated.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Take the prompt as a message and answer it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with tokens, timing and the chain.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while some blocks have no node.")] = 0.0,
    show_chain: Annotated[
        bool, typer.Option("--show-chain", help="Show which node served which blocks, and the cost.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="Use nodes that serve in this dtype; the default is the charter's.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Folder with the model's files, if this machine has them.")] = None,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
    account: Annotated[
        Path | None, typer.Option(help="Key file of the account that pays; the default is this machine's own.")
    ] = None,
) -> None:
    """Continue a text on the grid's nodes; lost nodes are replaced without changing the text.

    Example: gridllm generate "Once upon a time" --temperature 0.7
    """
    from gridllm.charter.catalogue import CHAMPION
    from gridllm.garbage import searched_rarely
    from gridllm_client.cli.show import Progress
    from gridllm_client.grid import Grid
    from gridllm_client.prompts import Wishes

    _check_at_once(dtype, path)
    text = sys.stdin.read() if prompt == "-" else prompt
    given = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop,
    }
    wishes = Wishes(**{name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
    wishes["max_new_tokens"] = max_new_tokens
    wishes["wait_s"] = wait
    with searched_rarely(), Progress() as progress:
        progress.phase("Entering the grid")
        with Grid(name=grid, account=account) as entered:
            from gridllm_client.generation import Generation  # imports torch, which the grid does while it is entered

            progress.phase("Loading embedding and head")
            found = entered.model(model, dtype=dtype, path=path)
            progress.phase("Opening a chain of nodes")
            made = Generation()
            try:
                asked: Prompt = [{"role": "user", "content": text}] if chat else text
                _stream(found, asked, wishes, progress, made, silent=as_json)
            except Exception:
                if made.bills and (show_chain or made.spent):  # what failed may have cost something all the same
                    progress.cost(made, None, always=True)
                raise
            balance = entered.balance() if as_json or show_chain else None
    if as_json:
        facts = {"prompt": text, **_grid_facts(entered), **made.as_json(), "balance": balance}
        sys.stdout.write(json.dumps(facts, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")
        return
    if show_chain:
        if model == CHAMPION:
            progress.remark(f"{CHAMPION} is {made.model}.")
        progress.chain(made)
    if made.bills:
        progress.cost(made, balance, always=show_chain)


def _check_at_once(dtype: str | None, path: Path | None) -> None:
    """What needs no grid to be refused: entering one takes seconds.

    Raises:
        UsageError: no such dtype.
        ModelError: no such folder.
    """
    from gridllm.errors import ModelError, UsageError
    from gridllm.models.sizes import ITEM_BYTES

    if dtype is not None and dtype not in ITEM_BYTES:
        raise UsageError(f"Data type {dtype!r} is not supported; use one of {', '.join(ITEM_BYTES)}.")
    if path is not None and not path.expanduser().is_dir():
        raise ModelError(f"There is no model folder {path}; without --path the files are fetched.")


def _stream(
    model: GridModel, prompt: Prompt, wishes: Wishes, progress: Progress, made: Generation, *, silent: bool
) -> None:
    def on_event(event: ChainEvent) -> None:
        if event.kind != "opened":
            progress.remark(event.text)

    wishes["on_event"] = on_event
    if not silent and isinstance(prompt, str) and sys.stdout.isatty():
        progress.prompt(prompt)
    try:
        for piece in model.stream_into(made, prompt, **wishes):
            if not silent:
                progress.piece(piece)
    finally:
        progress.end()


def _grid_facts(grid: Grid) -> dict[str, str]:
    return {"grid": grid.charter.grid, "grid_name": grid.charter.charter.name}
