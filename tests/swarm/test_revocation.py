"""What the maintainer says reaches everyone: notices between real processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.pin import Pins
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm_client import Grid
from tests.command import gridllm
from tests.swarm.grid import ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(300)

WITHIN_S = 60.0  # what is promised


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    with process_grid(tmp_path_factory.mktemp("grid"), "0:4", "4:8") as running:
        yield running


def board(grid: ProcessGrid) -> NoticeBoard:
    """What the volunteers' processes keep on disk."""
    pins = Pins(grid.data_dir)
    signed = pins.current()
    return NoticeBoard(signed, pins.notices_path(signed))


def within(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


def test_a_revocation_reaches_nodes(grid: ProcessGrid) -> None:
    peer = PeerId(grid.nodes[0].peer)
    said = grid.maintain("revoke", peer, "--why", "a test", "--for", "1h")
    assert said["told"] >= 1
    within(WITHIN_S, lambda: board(grid).revocation(peer) is not None)
    found = board(grid).revocation(peer)
    assert found is not None
    assert (found.why, found.until - found.issued) == ("a test", 3600)


def test_amended_minimums_reach_nodes(grid: ProcessGrid) -> None:
    said = grid.maintain("minimums", "--min-memory", "3MiB")
    assert said["serial"] == 1
    within(WITHIN_S, lambda: board(grid).admission.serve.memory_bytes == 3 * 2**20)
    shown = grid.maintain("minimums")
    assert shown["serve"]["memory_bytes"] == 3 * 2**20


def test_what_was_written_while_nobody_could_be_told(grid: ProcessGrid) -> None:
    """As if the maintainer's command had no network: its running first peer reads the file, and passes it on."""
    from gridllm.identity.keys import load
    from gridllm_bootstrap.home import Home
    from gridllm_bootstrap.notices.revoke import revocation

    home = Home(grid.maintainer / "data" / "gridllm" / "bootstrap")
    signed = home.pins.current()
    kept = NoticeBoard(signed, home.pins.notices_path(signed))
    peer = PeerId(grid.nodes[1].peer)
    kept.add(revocation(signed, kept, peer, "unheard", 60, load(home.maintainer_key(signed.charter.name))))
    within(WITHIN_S, lambda: board(grid).revocation(peer) is not None)


def test_it_survives_a_restart_of_the_first_peer(grid: ProcessGrid, tmp_path: Path) -> None:
    grid.stop_bootstrap()
    grid.start_bootstrap()
    late = tmp_path / "late"  # knows nothing yet, and asks the first peer alone
    joined = gridllm(late, "join", grid.address)
    assert joined.returncode == 0, joined.stderr
    pins = Pins(late / "data" / "gridllm")
    signed = pins.current()
    revoked = {node.peer for node in grid.nodes}

    def told() -> bool:
        asked = NoticeBoard(signed, pins.notices_path(signed))
        return asked.admission.serve.memory_bytes == 3 * 2**20 and {one.peer for one in asked.revocations} == revoked

    with Grid(late / "data" / "gridllm"):
        within(WITHIN_S, told)


def test_wrong_words(grid: ProcessGrid) -> None:
    for args, says in (
        (("revoke", "12D3KooWJoin", "--why", "x"), "is not the peer id"),
        (("revoke", grid.nodes[0].peer, "--why", ""), "Say in up to"),
        (("revoke", grid.nodes[0].peer, "--why", "x", "--name", "other"), "No grid called 'other'"),
        (("revoke", grid.nodes[0].peer, "--why", "x", "--for", "ever"), "is not a duration"),
        (("minimums", "--min-memory", "much"), "is not a size"),
    ):
        done = gridllm(grid.maintainer, "bootstrap", *args)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_no_key_no_notice(tmp_path: Path, grid: ProcessGrid) -> None:
    done = gridllm(tmp_path, "bootstrap", "revoke", grid.nodes[0].peer, "--why", "x")
    assert done.returncode == 2
    assert "No grid was founded" in done.stderr


def test_two_of_three_maintainers(tmp_path: Path) -> None:
    """Founded, revoked and amended by two of three; the third's first peer hears of it."""
    with process_grid(tmp_path, maintainers=3, threshold=2) as council:
        peer = Identity.ephemeral().peer
        draft = council.maintain("revoke", peer, "--why", "together")
        assert (draft["told"], board(council).revocation(peer)) == (0, None)
        said = council.maintain("sign", draft["file"], home=council.maintainers[1])
        assert (said["missing"], said["told"]) == (0, 3)
        amended = council.maintain("minimums", "--required", "--min-memory", "1MiB", home=council.maintainers[2])
        council.maintain("sign", amended["file"], home=council.maintainers[0])
        for home in council.maintainers:
            within(WITHIN_S, lambda home=home: council.maintain("minimums", home=home)["serial"] == 1)  # type: ignore[misc]
