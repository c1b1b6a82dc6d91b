"""One client of a grid with a ledger, in a process of its own with one thread: the same model with pay and without.

Run as ``python -m benchmarks.metering_worker MODEL FOLDER`` in a home whose account has credit.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
import time
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

import torch

from benchmarks.process import cpu_nanoseconds, family
from gridllm_client import Grid, GridModel
from gridllm_client.generation import Generation, tokens_of
from gridllm_client.sampling import Picker, generation_config

BLOCK: Final = 32  # tokens that a voucher is for: half a window


def unmetered(model: GridModel) -> GridModel:
    """The same over the same connection, for somebody without an account."""
    other = copy.copy(model)
    other._wallet = None
    return other


async def generate(model: GridModel, request: dict[str, Any]) -> tuple[Generation, float]:
    """A greedy generation, and its wall seconds, opening the session included."""
    started = time.perf_counter()
    made = await model.acomplete(request["prompt"], max_new_tokens=request["new_tokens"], temperature=0)
    return made, time.perf_counter() - started


def answer(models: dict[bool, GridModel], request: dict[str, Any]) -> dict[str, Any]:
    """Several generations, one after the other; metered or not, as asked, or this raises RuntimeError."""
    metered: bool = request["metered"]
    done = [asyncio.run(generate(models[metered], request)) for _ in range(request.get("times", 1))]
    for made, _ in done:
        paid = [bill.micro for bill in made.bills]
        if bool(paid) is not metered or not all(paid):
            raise RuntimeError(f"metered={metered}, and bills are {made.bills}, events {made.events}")
    after = [(len(made.ids) - 1, made.seconds - made.first_token_s) for made, _ in done]
    return {
        "tokens": done[0][0].ids,
        "disturbed": any(event.kind != "opened" for made, _ in done for event in made.events),
        "made": sum(len(made.ids) for made, _ in done),
        "seconds": sum(seconds for _, seconds in done),
        "decoded": sum(tokens for tokens, _ in after),  # tokens after the first
        "decode_s": sum(seconds for _, seconds in after),
        "first_token_s": [seconds - decode_s for (_, seconds), (_, decode_s) in zip(done, after, strict=True)],
    }


async def side_by_side(models: dict[bool, GridModel], request: dict[str, Any]) -> dict[str, list[float]]:
    """Two sessions grow by turns, a metered one and another, on the grid's loop: seconds for each block of tokens.

    A block is what one voucher pays for, so each of the metered has one; it falls into the block's last third. With
    ``pids`` also CPU seconds for each block, of this process, of what it started, and of those; with ``control``
    neither session is metered.
    """
    prompt, blocks = request["prompt"], request["blocks"]
    tokens = 1 + BLOCK * blocks
    ends = models[True].ends
    config = generation_config(ends.model, temperature=0, top_p=None, top_k=None, repetition_penalty=None)
    pick = Picker(ends.model, config, len(prompt), None)
    took: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    pids = [*request["pids"], *family([os.getpid()])] if "pids" in request else []
    async with AsyncExitStack() as stack:
        growing = {}
        for metered in models:
            model = models[metered and not request.get("control")]
            session = model.session(tokens=len(prompt) + tokens, prompt=len(prompt))
            stack.callback(session.close)
            growing[metered] = await stack.enter_async_context(aclosing(tokens_of(session, ends, prompt, pick, tokens)))
            await anext(growing[metered])
            if bool(session.bills) is not (model is models[True]):
                raise RuntimeError(f"metered={metered}, and bills are {session.bills}")
        for block in range(blocks):
            for metered in (True, False) if block % 2 else (False, True):
                before, started = cpu_nanoseconds(pids), time.perf_counter()
                for _ in range(BLOCK):
                    await anext(growing[metered])
                took[metered].append(time.perf_counter() - started)
                cpu[metered].append(1e-9 * (cpu_nanoseconds(pids) - before))
    return {"on": took[True], "off": took[False], "on_cpu": cpu[True], "off_cpu": cpu[False]}


def main(name: str, folder: str) -> None:
    """Serve requests from standard input."""
    torch.set_num_threads(1)
    with Grid() as grid:
        paying = grid.model(name, path=folder)
        paying.ends.model.generation_config.eos_token_id = None  # every text has the length that was asked for
        models = {True: paying, False: unmetered(paying)}
        print("ready", flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            grows = "blocks" in request
            said = paying.runtime.run(side_by_side(models, request)) if grows else answer(models, request)
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
