"""A whole leaderboard on PostgreSQL: submit, grade, rank; its server dies and comes back; to SQLite, and out again."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from gridllm.models.files import DEMO, find_model
from gridllm_leaderboard.place import Place
from tests.postgres import PostgresServer
from tests.swarm.leaderboard_grid import Contest, leaderboard_grid
from tests.swarm.leaderboard_restored import listings

pytestmark = [pytest.mark.timeout(1500), pytest.mark.soak]

HEARD_S = 120.0  # for a notice to reach the leaderboard by gossip
RULES = ("--task", "sums:20", "--fee", "0")


def untrained(folder: Path, width: int) -> Path:
    """A small model that knows nothing, with the demo model's tokenizer."""
    config = LlamaConfig(
        vocab_size=2048, hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in find_model(DEMO).glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def place_of(contest: Contest) -> Place:
    return Place(next(contest.grid.maintainer.rglob("leaderboard.key")).parent)


def move(contest: Contest, file: Path, here: str | None, there: str | None) -> None:
    """Back the leaderboard up from one database, and have it run on another; None: its SQLite file."""
    home, before = contest.grid.maintainer, listings(contest)
    saved = contest.json(home, "backup", str(file), *(("--database", here) if here else ()))
    assert (saved["submissions"], saved["lacking"]) == (len(before[0]), [])
    contest.close()
    to = ("--database", there) if there else ()
    assert "folder of weights is not empty" in contest.refused(home, "restore", str(file), *to)
    shutil.rmtree(place_of(contest).vault)
    assert contest.json(home, "restore", str(file), *to) == saved
    contest.flags = ("--store", there) if there else ()
    contest.start()
    assert listings(contest) == before


def check_new_tasks(contest: Contest, author: Path, ids: dict[str, str]) -> None:
    """The tasks change: nobody has a place until the champion, and who asks for it, are graded again."""
    champion = next(row["name"] for row in contest.json(contest.grader, "rank") if row["champion"])
    other = next(name for name in ids if name != champion)
    assert "by the tasks that hold now" in contest.refused(author, "regrade", other)
    contest.json(contest.grid.maintainer, "init", "--task", "facts:20")
    deadline = time.monotonic() + HEARD_S
    while contest.json(contest.grader, "rank"):  # until the leaderboard has heard of the rules
        assert time.monotonic() < deadline
    assert "is champion" in contest.refused(author, "regrade", champion)
    assert contest.json(author, "regrade", other)["state"] in ("queued", "locked")
    rows = contest.graded(ids[other])
    while sum(row["current"] for row in rows) < 2:  # the ranking follows the verdict within a moment
        assert time.monotonic() < deadline + HEARD_S
        rows = contest.json(contest.grader, "rank", "--all")
    assert {row["name"]: row["current"] for row in rows} == {name: name in (champion, other) for name in ids}
    assert [row["rules"] for row in rows] == [2, 2, 1]


def test_a_leaderboard_lives_on_postgresql(tmp_path: Path) -> None:
    models = {f"m{width}": untrained(tmp_path / f"m{width}", width) for width in (32, 48, 64)}
    with PostgresServer(tmp_path / "server") as server:
        url, other = server.database(), server.database()
        with leaderboard_grid(tmp_path, rules=RULES, running=("--store", url)) as contest:
            author = contest.member("author")
            ids = {"m32": contest.submit(author, models["m32"], "m32")}
            (first,) = contest.graded(ids["m32"])
            assert first["champion"] and first["submission"] == ids["m32"]

            server.kill()
            server.start()
            ids["m48"] = contest.submit(author, models["m48"], "m48")
            assert {row["submission"] for row in contest.graded(ids["m48"])} == set(ids.values())
            assert not place_of(contest).database.exists()

            move(contest, tmp_path / "first.tar", url, None)
            ids["m64"] = contest.submit(author, models["m64"], "m64")
            assert {row["submission"] for row in contest.graded(ids["m64"])} == set(ids.values())

            move(contest, tmp_path / "second.tar", None, other)
            assert contest.json(contest.grader, "verify", "m64")["sound"]
            check_new_tasks(contest, author, ids)
