"""``gridllm demo``: a whole grid on this machine, from founding to text, and nothing left behind."""

from __future__ import annotations

import re
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gridllm.wire.record import NodeRecord
    from gridllm_client.cli.fleet import Fleet, Process
    from gridllm_client.generation import Generation
    from gridllm_client.grid import Grid
    from gridllm_client.prompts import Wishes

READY_S: Final = 120.0  # for all blocks to be served
LOOK_S: Final = 0.5  # between looks into the directory
CACHE_TOKENS: Final = 4096  # of each volunteer
HELP_S: Final = 25.0  # a volunteer more is started when blocks are still uncovered after this long


def demo(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")] = "Once upon a time",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate.")] = 120,
    nodes: Annotated[int, typer.Option(min=2, max=8, help="Volunteers to start.")] = 3,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
) -> None:
    """Start a grid on this machine (a first peer and three volunteers), generate through it, stop everything.

    It takes about half a minute, needs no network, and leaves nothing behind.

    Example: gridllm demo "The fox said"
    """
    from rich.console import Console

    from gridllm.garbage import searched_rarely
    from gridllm_client.cli.fleet import Fleet

    started = time.monotonic()
    console = Console(soft_wrap=True, highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_warm_up, daemon=True).start()  # torch takes seconds to load, as do our processes to start
    with tempfile.TemporaryDirectory(prefix="gridllm-demo-", ignore_cleanup_errors=True) as home, searched_rarely():
        with Fleet(Path(home)) as fleet:
            try:
                _show(fleet, console, prompt, max_new_tokens, nodes, temperature, seed)
            finally:
                console.print("\n[dim]Stopping everything…[/]")
        console.print(f"Done in {time.monotonic() - started:.0f} s; everything it started has stopped.")


def _show(
    fleet: Fleet,
    console: Console,
    prompt: str,
    max_new_tokens: int,
    nodes: int,
    temperature: float,
    seed: int | None,
) -> None:
    from gridllm_client.cli.show import waiting
    from gridllm_client.grid import Grid
    from gridllm_client.prompts import Wishes

    with waiting(console, "Founding a grid…"):
        address = _found(fleet)
    console.print(f"[bold]1.[/] Founded a grid; its first peer is {address}", style="none")
    with waiting(console, "Joining…"):
        fleet.run("gridllm join", "join", address)
    console.print("[bold]2.[/] Joined: fetched the charter from the first peer, verified and pinned it")
    volunteers = _volunteer(fleet, nodes)
    pids = ", ".join(str(volunteer.pid) for volunteer in volunteers)
    console.print(f"[bold]3.[/] Started {nodes} volunteers, none with memory for the whole model: pids {pids}")
    with Grid(fleet.data_dir) as grid:
        records = _wait_for_nodes(fleet, grid, console, volunteers)
        console.print("[bold]4.[/] All blocks are served; generating:\n")
        wishes = Wishes(max_new_tokens=max_new_tokens, temperature=temperature, wait_s=20.0)
        if seed is not None:
            wishes["seed"] = seed
        made = _stream(grid, console, prompt, wishes)
    _print_chain(console, made, records, volunteers)


def _found(fleet: Fleet) -> str:
    """A new grid with its first peer running → the address to join it at."""
    from gridllm_client.cli.fleet import DemoError, free_port

    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    maddrs = ("--host-maddrs", listen, "--announce-maddrs", listen)
    fleet.run("gridllm bootstrap init", "bootstrap", "init", "--name", "demo", "--model", "demo", "--open", *maddrs)
    first = fleet.start("gridllm bootstrap run", "bootstrap", "run")
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        fleet.check()
        found = [match[1] for line in first.lines if (match := re.search(r"gridllm join (/\S+)", line))]
        if found:
            return found[0]
        time.sleep(0.05)
    raise DemoError(f"The first peer was not ready within {READY_S:.0f} s:\n  {first.last_words()}")


def _volunteer(fleet: Fleet, nodes: int) -> list[Process]:
    """Start volunteers with memory for a part of the model each."""
    memory = str(_memory_for_a_part(fleet, nodes))
    return [_start_volunteer(fleet, number, memory) for number in range(1, nodes + 1)]


def _start_volunteer(fleet: Fleet, number: int, memory: str) -> Process:
    return fleet.start(
        f"volunteer {number}",
        "serve",
        *("--blocks", "auto"),
        *("--memory", memory),
        *("--cache-tokens", str(CACHE_TOKENS)),
        *("--threads", "1"),
        *("--identity", str(fleet.home / f"volunteer-{number}.key")),
        *("--host-maddrs", "/ip4/127.0.0.1/tcp/0"),
        *("--grace", "2"),
    )


def _memory_for_a_part(fleet: Fleet, nodes: int) -> int:
    """Bytes in which just enough blocks fit that ``nodes`` volunteers hold the model together, and none alone."""
    from gridllm.charter.pin import Pins
    from gridllm.models.manifest import parse_manifest
    from gridllm.planning.placement import bytes_needed
    from gridllm.wire.tensor import dtype_named

    pins = Pins(fleet.data_dir)
    entry = pins.current().charter.model("demo")
    raw = pins.manifest(entry.model_root) or Pins(fleet.data_dir / "bootstrap").manifest(entry.model_root)
    item = dtype_named(entry.dtype).itemsize
    block_bytes = entry.parameters * item // entry.blocks
    cache_bytes = 0
    if raw is not None:
        manifest = parse_manifest(raw)
        config = manifest.config
        cache_bytes = 2 * config["num_key_value_heads"] * config["head_dim"] * item
        sizes = [t.shape for name, t in manifest.tensors.items() if re.search(r"\.0\.", name)]
        block_bytes = item * sum(_product(shape) for shape in sizes)
    part = min(entry.blocks - 1, -(-entry.blocks // nodes))
    enough, too_much = (
        bytes_needed(blocks, block_bytes, cache_bytes, cache_tokens=CACHE_TOKENS) for blocks in (part, part + 1)
    )
    return (enough + too_much) // 2


def _product(shape: list[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _wait_for_nodes(fleet: Fleet, grid: Grid, console: Console, volunteers: list[Process]) -> list[NodeRecord]:
    """Wait until every block is served, and show how it goes."""
    from gridllm.errors import SwarmError
    from gridllm.planning.coverage import coverage
    from gridllm_client.cli.fleet import DemoError
    from gridllm_client.cli.show import waiting

    entry = grid.charter.charter.model("demo")
    started = time.monotonic()
    records: list[NodeRecord] = []
    with waiting(console, "Waiting for the volunteers…") as status:
        while time.monotonic() - started < READY_S:
            fleet.check()
            try:
                records = grid.status()[entry.name]
            except SwarmError:
                records = []  # the directory did not answer this time
            counts = coverage(records, entry.blocks)
            bar = "".join("█" if count else "░" for count in counts)
            served = sum(map(bool, counts))
            states = ", ".join(f"{v.name}: {_last(v)}" for v in volunteers)
            status.update(f"{bar} {served} of {entry.blocks} blocks served · {states}")
            if served == entry.blocks:
                return records
            if time.monotonic() - started > HELP_S * (len(volunteers) - 2) and len(volunteers) < 6:
                volunteers.append(_start_volunteer(fleet, len(volunteers) + 1, str(_memory_for_a_part(fleet, 3))))
            time.sleep(LOOK_S)
    said = "\n".join(f"{v.name}:\n  {v.last_words()}" for v in volunteers)
    raise DemoError(f"Only {served} of {entry.blocks} blocks were served after {READY_S:.0f} s.\n{said}")


def _last(process: Process) -> str:
    """What a volunteer does, in a word or two."""
    line = process.lines[-1] if process.lines else "starting"
    return re.sub(r" of demo.*$", "", line).lower()


def _stream(grid: Grid, console: Console, prompt: str, wishes: Wishes) -> Generation:
    from gridllm_client.cli.show import Progress, waiting
    from gridllm_client.generation import Generation

    made = Generation()
    with waiting(console, "Loading embedding and head…"):
        model = grid.model("demo")
    with Progress() as progress:
        progress.prompt(prompt)
        wishes["on_event"] = lambda event: progress.remark(event.text) if event.kind != "opened" else None
        for piece in model.stream_into(made, prompt, **wishes):
            progress.piece(piece)
    return made


def _print_chain(console: Console, made: Generation, records: list[NodeRecord], volunteers: list[Process]) -> None:
    held = {record.peer: record for record in records}
    console.print("")
    for peer, start, end in made.chain:
        owner = next((v for v in volunteers if any(peer in line for line in v.lines)), None)
        record = held.get(peer)
        who = f"{owner.name}, pid {owner.pid}" if owner else "a volunteer"
        holds = f" (holds {record.start}:{record.end})" if record else ""
        console.print(f"  {who}, peer {peer}: computed blocks {start}:{end}{holds}")
    console.print(
        f"\n{len(made.ids)} tokens through {len(made.chain)} processes, [bold]{made.tokens_per_s:.1f} tokens/s[/]; "
        f"the first after {made.first_token_s:.2f} s"
    )


def _warm_up() -> None:
    import gridllm_client.grid
    import gridllm_client.model  # noqa: F401  # loaded for whoever imports it next


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
