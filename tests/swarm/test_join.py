"""Found a grid, run its first peer, join it: as people do, by command; and each way in which joining fails."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gridllm.charter.document import sign_charter
from gridllm.identity.keys import Identity
from tests.charters import MAINTAINERS, charter
from tests.command import Running, gridllm
from tests.ports import free_port

pytestmark = pytest.mark.timeout(240)


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def found(home: Path, name: str, port: int) -> str:
    """Found a grid with the demo model on this machine → its join address."""
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    done = gridllm(
        home,
        "bootstrap",
        "init",
        "--name",
        name,
        "--model",
        "demo",
        "--open",
        "--host-maddrs",
        listen,
        "--announce-maddrs",
        listen,
        cold=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("gridllm join ")]
    assert len(lines) == 1, done.stdout
    return lines[0].removeprefix("gridllm join ")


@dataclass
class Grid:
    home: Path  # the maintainer's
    address: str
    running: Running

    @property
    def folder(self) -> Path:
        return self.home / "data" / "gridllm" / "bootstrap" / "grids" / "home"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    home = tmp_path_factory.mktemp("maintainer")
    address = found(home, "home", free_port())
    with Running(home, "bootstrap", "run", cold=True) as running:
        running.wait_for("Ready")
        yield Grid(home, address, running)


def fails(home: Path, address: str, *says: str) -> str:
    """Joining exits 1 with one sentence that holds ``says``, and pins nothing new."""
    done = gridllm(home, "join", "--timeout", "60", address)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("gridllm: ")]
    assert len(sentences) == 1, done.stderr
    for text in says:
        assert text in sentences[0]
    return sentences[0]


def test_join_shows_and_pins_the_grid(grid: Grid, tmp_path: Path) -> None:
    done = gridllm(tmp_path, "join", grid.address)
    assert done.returncode == 0, done.stderr
    for text in (
        "Joined",
        "home",
        "demo",
        "1 of 1 must sign",
        "open: no certificate needed",
        grid.address,
        "12D3Koo",
    ):
        assert text in done.stdout
    again = gridllm(tmp_path, "join", grid.address, "--json")
    facts = json.loads(again.stdout)
    assert (facts["name"], facts["new"], facts["admission"]["required"]) == ("home", False, False)
    shown = json.loads(gridllm(grid.home, "bootstrap", "show", "--json").stdout)
    assert facts["grid"] == shown["grid"]
    assert shown["join"] == [f"gridllm join {grid.address}"]
    listed = json.loads(gridllm(tmp_path, "grids", "--use", "home", "--json").stdout)
    assert [(one["name"], one["current"]) for one in listed] == [("home", True)]
    pinned = tmp_path / "data" / "gridllm" / "grids" / "home" / "charter.json"
    assert pinned.read_bytes() == (grid.folder / "charter.json").read_bytes()


def test_founding_again_overwrites_nothing(grid: Grid) -> None:
    before = {path: path.read_bytes() for path in grid.folder.iterdir() if path.suffix in (".key", ".json")}
    done = gridllm(grid.home, "bootstrap", "init", "--name", "home", "--model", "demo")
    assert done.returncode == 2
    assert "never overwrites a grid" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_one_key_runs_once(grid: Grid) -> None:
    done = gridllm(grid.home, "bootstrap", "run")
    assert done.returncode == 1
    assert f"in use by process {grid.running.pid}" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:31337", "/ip4/127.0.0.1/tcp/31337", "/ip4/1.2.3/tcp/1/p2p/x"])
def test_a_wrong_address(tmp_path: Path, address: str) -> None:
    fails(tmp_path, address, "multiaddr", "looks like" if "1.2.3" not in address else "does not fit")


def test_nobody_there(tmp_path: Path) -> None:
    peer = Identity.ephemeral().peer
    address = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{peer}"
    fails(tmp_path, address, f"Nobody answers at {address} (connection refused)")


def test_somebody_else_there(grid: Grid, tmp_path: Path) -> None:
    """The handshake proves who answers: an address with another peer id in it reaches nobody."""
    stranger = Identity.ephemeral().peer
    address = f"{grid.address.rsplit('/', 1)[0]}/{stranger}"
    fails(tmp_path, address, f"answers {grid.address.rsplit('/', 1)[1]}, and not {stranger}")


STRANGERS = """
import asyncio, sys
from pathlib import Path
from gridllm.identity.keys import Identity
from gridllm.swarm.libp2p import open_swarm

async def main(served):
    mute, liar = [await open_swarm(Identity.ephemeral(), host_maddrs=("/ip4/127.0.0.1/tcp/0",)) for _ in range(2)]
    try:
        async def answer(peer, payload):
            return Path(served).read_bytes()
        await liar.serve_calls("gridllm.charter", answer)
        print("up", mute.addresses[0], liar.addresses[0], flush=True)
        await asyncio.Event().wait()
    finally:
        await mute.close()
        await liar.close()

try:
    asyncio.run(main(sys.argv[1]))
except KeyboardInterrupt:
    pass
"""


@dataclass
class Strangers:
    mute: str  # address of a libp2p peer that answers no calls
    liar: str  # address of one that serves the file ``served`` as its charter
    served: Path


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    home = tmp_path_factory.mktemp("strangers")
    served = home / "served.json"
    with Running(home, str(served), program=(sys.executable, "-c", STRANGERS)) as running:
        _, mute, liar = running.wait_for("up").split()
        yield Strangers(mute, liar, served)


def test_a_peer_of_no_grid(strangers: Strangers, tmp_path: Path) -> None:
    fails(tmp_path, strangers.mute, "is not a member of a grid")


def test_a_forged_charter(grid: Grid, strangers: Strangers, tmp_path: Path) -> None:
    envelope = json.loads((grid.folder / "charter.json").read_bytes())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["first_peers"] = []
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    strangers.served.write_text(json.dumps(envelope))
    fails(tmp_path, strangers.liar, "The charter of 'home' is forged", "1 of its 1 maintainers")
    strangers.served.write_bytes(os.urandom(1000))
    fails(tmp_path, strangers.liar, "This is not a charter")
    assert not (tmp_path / "data" / "gridllm" / "grids").exists(), "nothing forged is pinned"


def test_another_grid_under_the_pinned_name(grid: Grid, strangers: Strangers, tmp_path: Path) -> None:
    assert gridllm(tmp_path, "join", grid.address).returncode == 0
    pinned = tmp_path / "data" / "gridllm" / "grids" / "home" / "charter.json"
    before = pinned.read_bytes()
    strangers.served.write_bytes(sign_charter(charter(name="home"), MAINTAINERS).raw)
    fails(tmp_path, strangers.liar, "Another grid is pinned under the name 'home'", "A charter never changes")
    assert pinned.read_bytes() == before


def test_the_first_peer_stops_clean_and_starts_again(grid: Grid, tmp_path: Path) -> None:
    """Comes last: it stops the grid that the other tests share."""
    assert grid.running.stop() == 0
    for number in (signal.SIGINT, signal.SIGTERM):
        with Running(grid.home, "bootstrap", "run", "--json") as running:
            ready = json.loads(running.wait_for('"ready"'))
            assert grid.address in ready["addresses"], ready
            helpers = descendants(running.pid)
            assert helpers, "the libp2p daemon"
            apart = [os.getpgid(helper.pid) != os.getpgid(running.pid) for helper in helpers]
            assert all(apart), "Ctrl-C in a terminal reaches the whole group; the daemon must outlive draining"
            assert running.stop(number) == 0, "".join(running.output)
            assert json.loads(running.output[-1]) == {"event": "stopped"}
            _, alive = psutil.wait_procs(helpers, timeout=30)
            assert not alive, f"left behind: {alive}"
    with Running(grid.home, "bootstrap", "run") as running:
        running.wait_for("Ready")
        for helper in descendants(running.pid):
            helper.kill()
        assert running.wait() == 1
        assert "libp2p daemon" in "".join(running.output)
    fails(tmp_path, grid.address, "Nobody answers")


def test_a_killed_command_takes_its_daemon_along(grid: Grid) -> None:
    with Running(grid.home, "bootstrap", "run") as running:
        running.wait_for("Ready")
        helpers = descendants(running.pid)
        assert helpers, "the libp2p daemon"
        running.process.kill()
        _, alive = psutil.wait_procs(helpers, timeout=30)
        assert not alive, f"left behind: {alive}"
