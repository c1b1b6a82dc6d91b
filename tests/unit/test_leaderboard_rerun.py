"""``verify`` runs a sample itself: liars are found, and noise is borne; and how checks are shown."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.errors import LeaderboardError, ModelError
from gridllm.models.files import find_model
from gridllm.models.manifest import build_manifest, root, verify_manifest
from gridllm_leaderboard.cli.verify_view import check_text, verify_json
from gridllm_leaderboard.ranking.points import result_of
from gridllm_leaderboard.results import ItemResult, Line
from gridllm_leaderboard.statements import Submission
from gridllm_leaderboard.tasks import load
from gridllm_leaderboard.tasks.from_text import make_task
from gridllm_leaderboard.verifying.examine import examine
from gridllm_leaderboard.verifying.live import Live, manifest_of
from gridllm_leaderboard.verifying.rerun import sample_of, verify_rerun
from gridllm_leaderboard.verifying.walk import UnsoundError, Walk
from tests.unit.graded_rounds import with_points
from tests.unit.log_heads import SIGNED
from tests.unit.verified_board import Board


def _one_task(points: list[float]) -> tuple[dict[str, list[Line]], dict[str, list[ItemResult]]]:
    items: list[Line] = [{"query": f"{number}?", "choices": ["a", "b"], "gold": 0} for number in range(len(points))]
    results = [
        result_of("choice", item, [-1.0, -2.0] if one else [-2.0, -1.0])
        for item, one in zip(items, points, strict=True)
    ]
    return {"t": items}, {"t": results}


def test_a_run_here_finds_a_liar_and_bears_noise() -> None:
    items, said = _one_task([1.0] * 40)
    sample = sample_of(items, 20, random.Random(1))
    assert len(sample["t"]) == 20 == len(set(sample["t"]))
    chosen = [said["t"][number] for number in sample["t"]]
    assert "20 items run here, points at most 0.0e+00 apart" in verify_rerun(sample, items, {"t": chosen}, said)
    noisy = {"t": [with_points(chosen[0], 0.0), *chosen[1:]]}
    assert "which is noise" in verify_rerun(sample, items, noisy, said)
    lied = {"t": [*(with_points(one, 0.0) for one in chosen[:2]), *chosen[2:]]}
    with pytest.raises(LeaderboardError, match=r"first at item \d+ of 't': 1.0000 points said, 0.0000 found here"):
        verify_rerun(sample, items, lied, said)
    with pytest.raises(LeaderboardError, match="is another one"):
        verify_rerun(sample, items, {"t": chosen[::-1]}, said)
    assert sample_of(items, 1000, random.Random(1)) == {"t": list(range(40))}


async def test_checks_are_shown_and_told_to_programs() -> None:
    board = Board({"verdict": lambda said: said.model_copy(update={"changed": False})})
    shown: list[str] = []
    walk = Walk(lambda check: shown.append(check_text(check).plain))
    with pytest.raises(UnsoundError) as caught:
        await examine(board, SIGNED, board.ids["new"], walk)
    assert shown[0].startswith("✓ the author's signature: 'new' by ")
    assert shown[-1].startswith("✗ the verdict: The verdict says changed False")
    told = verify_json(walk.checks, str(caught.value))
    assert (told["sound"], told["checks"][-1]["outcome"]) == (False, "wrong")


def test_a_copy_of_ones_own_needs_no_leaderboard_and_must_be_the_model() -> None:
    """Of a withdrawn model, or one that is not to be served, the leaderboard hands out nothing."""
    folder = find_model("demo")
    known = root(build_manifest(folder))
    assert verify_manifest(manifest_of(folder, Submission.model_construct(root=known, name="mine")), known)
    with pytest.raises(ModelError, match="another model than 'mine'"):
        manifest_of(folder, Submission.model_construct(root="0" * 64, name="mine"))


async def test_files_of_a_task_that_was_changed_since_are_not_held_against_its_older_rounds(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} of a text that nobody has seen." for number in range(20))
    for version in (1, 2):
        make_task([text], tmp_path / str(version), name="tiny", practice=2, size=10, seed=version)
    before, now = (load(tmp_path / str(version)) for version in (1, 2))

    async def file(_: str, name: str) -> bytes:
        return now.files()[name]

    link: Any = SimpleNamespace(rules=SimpleNamespace(tasks=[now.rule(3)]), file=file)
    assert await Live(link).task(before.rule(3)) is None
    found = await Live(link).task(now.rule(3))
    assert found is not None
    with pytest.raises(LeaderboardError, match="not here; its keeper alone"):
        found.draw(bytes(32), 3)
