"""Many failures in a row: nodes die and freeze at random moments; the text never changes, pauses are recorded.

``GRIDLLM_FIGURES=docs/figures pytest -m soak tests/swarm/test_failures_soak.py`` writes ``failures.json`` there;
``GRIDLLM_SEED=3`` draws other moments.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from gridllm_client.grid import Grid
from tests.swarm.failures import SPANS, Interrupted, Pauses, interrupt, replenish
from tests.swarm.grid import process_grid

KILLS, FREEZES = 20, 5
MAX_NEW_TOKENS = 110
LATEST = 0.8  # harm is done within this share of the pieces of the text
PROMPTS = ("Once upon a time", "Mira", "One morning")
WISHES = ({"temperature": 0}, {"temperature": 0.7, "top_p": 0.95, "seed": 3})
KILL_AIM_S, FREEZE_AIM_S = 2.0, 10.0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_failures_at_random_moments(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(int(os.environ.get("GRIDLLM_SEED", "2")))
    pauses = {"kill": Pauses(), "freeze": Pauses()}
    harms = ["kill"] * KILLS + ["freeze"] * FREEZES
    rng.shuffle(harms)
    with process_grid(tmp_path, extra=["--cache-tokens", "8192"]) as grid:
        replenish(grid)
        with Grid(grid.data_dir) as client:
            model = client.model("demo")
            pieces = {
                (prompt, index): list(model.stream(prompt, max_new_tokens=MAX_NEW_TOKENS, **wishes))  # type: ignore[arg-type]
                for prompt in PROMPTS
                for index, wishes in enumerate(WISHES)
            }
            for round_, kind in enumerate(harms):
                prompt, index = rng.choice(list(pieces))
                wanted = pieces[prompt, index]
                hop, piece = rng.randrange(len(SPANS)), rng.randint(1, int(LATEST * len(wanted)))
                frozen: list[int] = []

                def harm(chain: Sequence[int], kind: str = kind, hop: int = hop, frozen: list[int] = frozen) -> None:
                    if kind == "kill":
                        grid.kill(chain[hop])
                    else:
                        frozen.append(chain[hop])
                        grid.freeze(chain[hop], daemon=rng.random() < 0.5)

                made = interrupt(model, grid, prompt, {piece: harm}, max_new_tokens=MAX_NEW_TOKENS, **WISHES[index])
                tell(round_, kind, hop, piece, made)
                assert made.text == "".join(wanted)
                assert made.repairs
                pauses[kind].add(made)
                for number in frozen:
                    grid.thaw(number)
                replenish(grid)
    figures = {kind: found.summary() for kind, found in pauses.items()}
    report(figures)
    assert figures["kill"]["max_s"] < KILL_AIM_S, figures
    assert figures["freeze"]["max_s"] < FREEZE_AIM_S, figures


def tell(round_: int, kind: str, hop: int, piece: int, made: Interrupted) -> None:
    said = "; ".join(map(str, made.repairs))
    print(f"{round_ + 1:>2} {kind} of hop {hop} after piece {piece}: pause {made.pause_s:.2f} s ({said})")  # noqa: T201


def report(figures: dict[str, dict[str, object]]) -> None:
    machine = {"cores": psutil.cpu_count(), "load_1_min": round(psutil.getloadavg()[0], 1)}
    text = json.dumps({"machine": machine, **figures}, indent=1)
    print(text)  # noqa: T201
    folder = os.environ.get("GRIDLLM_FIGURES")
    if folder:
        Path(folder, "failures.json").write_text(text + "\n", encoding="utf-8")
