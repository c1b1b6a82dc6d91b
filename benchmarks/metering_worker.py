"""One client of a grid with a ledger, in a process of its own with one thread: the same model with pay and without.

Run as ``python -m benchmarks.metering_worker MODEL FOLDER`` in a home whose account has credit.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import time
from typing import Any

import torch

from gridllm_client import Grid, GridModel
from gridllm_client.generation import Generation


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


def main(name: str, folder: str) -> None:
    """Serve requests from standard input."""
    torch.set_num_threads(1)
    with Grid() as grid:
        paying = grid.model(name, path=folder)
        paying.ends.model.generation_config.eos_token_id = None  # every text has the length that was asked for
        models = {True: paying, False: unmetered(paying)}
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(models, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
