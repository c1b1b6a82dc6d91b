"""Founding a grid: what is written, what is refused, and the census of a running one."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter, verify_charter
from gridllm.charter.pin import Pins
from gridllm.errors import CharterError, ModelError, UsageError
from gridllm.identity.keys import Identity, load
from gridllm.ids import ModelRoot
from gridllm.settings import load_settings
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.record import NodeRecord, State
from gridllm_bootstrap.cli.common import grid_at, print_grid
from gridllm_bootstrap.first_peer import census, watch
from gridllm_bootstrap.founding.economy_flags import EconomyWishes
from gridllm_bootstrap.founding.found import Rules, found_grid
from gridllm_bootstrap.founding.offer import ModelWish
from gridllm_bootstrap.home import Home, default_root
from gridllm_bootstrap.listen import Listening, first_peer_addresses
from gridllm_bootstrap.reporter import Reporter
from tests.charters import MAINTAINERS, charter

PEER = Identity.ephemeral().peer
LOOPBACK = ["/ip4/127.0.0.1/tcp/31337"]
LISTENING = Listening(host_maddrs=LOOPBACK, announce_maddrs=[])


class TestAddresses:
    def test_announced_ones_are_what_others_dial(self) -> None:
        announced = ["/ip4/203.0.113.7/tcp/4001", f"/dns4/grid.example.org/tcp/1/p2p/{PEER}"]
        assert first_peer_addresses(PEER, LOOPBACK, announced) == [f"{announced[0]}/p2p/{PEER}", announced[1]]

    def test_without_any_the_wildcard_becomes_this_machine(self) -> None:
        (address,) = first_peer_addresses(PEER, ["/ip4/0.0.0.0/tcp/31337"], [])
        assert address.endswith(f"/tcp/31337/p2p/{PEER}")
        assert "/0.0.0.0/" not in address

    @pytest.mark.parametrize(
        ("host", "announced", "says"),
        [
            (["/ip4/0.0.0.0/tcp/0"], [], "'0' does not fit /tcp/"),
            (["127.0.0.1:31337"], [], "is not a multiaddr"),
            (LOOPBACK, [f"/ip4/203.0.113.7/tcp/1/p2p/{Identity.ephemeral().peer}"], "names another peer"),
        ],
    )
    def test_refused(self, host: list[str], announced: list[str], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            first_peer_addresses(PEER, host, announced)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 2 blocks with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=64,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def ignore_progress(_name: str, _done: int, _total: int) -> None:
    """No bar in tests."""


class TestFounding:
    def test_what_is_written(self, tmp_path: Path, model: Path) -> None:
        home = Home(tmp_path / "maintainer")
        wishes = [ModelWish(str(model), None, "bfloat16")]
        founding = found_grid(home, "home", wishes, listening=LISTENING, progress=ignore_progress)
        signed = founding.signed
        assert signed is not None
        assert founding.file is None
        charter = signed.charter
        assert home.pins.current() == signed
        assert verify_charter((home.folder("home") / "charter.json").read_bytes()) == signed
        assert charter.maintainers == [load(home.maintainer_key("home")).public_key.hex()]
        assert charter.first_peers == [f"{LOOPBACK[0]}/p2p/{load(home.peer_key('home')).peer}"]
        entry = charter.model("tiny")
        assert (entry.blocks, entry.hidden_size, entry.dtype, entry.source) == (2, 32, "bfloat16", "local")
        assert entry.parameters > 2 * 32 * 64
        assert home.pins.manifest(ModelRoot(entry.root)) is not None
        assert home.listening("home") == LISTENING
        for key in (home.maintainer_key("home"), home.peer_key("home")):
            assert key.stat().st_mode & 0o777 == 0o600

    def test_how_to_start_it_names_the_folder_and_the_grid_where_that_is_needed(
        self, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        usual, other = Home(default_root(load_settings())), Home(tmp_path / "a [b]")
        for home, name in ((usual, "one"), (other, "one"), (other, "two")):
            self._found(home, name, str(model))
        assert usual.run_command("one") == "gridllm bootstrap run"
        assert other.run_command("one") == f"gridllm bootstrap run --home '{other.root}' --name one"
        print_grid("Founded", other, grid_at(other, "two"))
        assert f"Start its first peer:  {other.run_command('two')}\n" in capsys.readouterr().out
        reporter = Reporter(grid_at(other, "two"), as_json=False, again=other.run_command("two"))
        reporter.stopping()
        assert f"Start it again with: {other.run_command('two')}\n" in capsys.readouterr().err

    def test_nothing_is_overwritten(self, tmp_path: Path, model: Path) -> None:
        home = Home(tmp_path)
        home.folder("home").mkdir(parents=True)
        kept = home.folder("home") / "ledger.sqlite"
        kept.touch()
        with pytest.raises(UsageError, match="never overwrites a grid"):
            self._found(home, "home", str(model))
        assert list(home.folder("home").iterdir()) == [kept]

    @pytest.mark.parametrize("name", ["", "../up", "a/b", " x", "x" * 65, "grid\n"])
    def test_names_that_cannot_be_files(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="cannot be called"):
            self._found(Home(tmp_path), name, "demo")

    def test_a_missing_model_leaves_nothing_behind(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "maintainer")
        with pytest.raises(ModelError):
            self._found(home, "home", "/no/such/folder")
        assert not home.root.exists()

    def test_flags_about_credit_are_checked_before_the_model_is_read(self, tmp_path: Path, model: Path) -> None:
        home = Home(tmp_path / "maintainer")
        for wishes, says in (
            (EconomyWishes(window=0), "--window 0 cannot be"),
            (EconomyWishes(tiers=("other=1",)), "write it like tiny=50"),
            (EconomyWishes(keepers=("ab" * 32,)), "is not a maintainer of this grid"),
        ):
            with pytest.raises(UsageError, match=says):
                found_grid(
                    home,
                    "home",
                    [ModelWish(str(model), None, None)],
                    listening=LISTENING,
                    progress=lambda *_: pytest.fail("the model is read"),
                    rules=Rules(economy=wishes),
                )
        assert not home.root.exists()

    def test_a_dtype_that_no_node_can_have(self, tmp_path: Path, model: Path) -> None:
        with pytest.raises(UsageError, match="its dtype is 'int3'"):
            self._found(Home(tmp_path), "home", str(model), dtype="int3")

    def test_a_damaged_listen_file(self, tmp_path: Path) -> None:
        with pytest.raises(CharterError, match=r"listen\.json is missing or damaged"):
            Home(tmp_path).listening("home")

    def _found(self, home: Home, name: str, source: str, dtype: str | None = None) -> None:
        wishes = [ModelWish(source, None, dtype)]
        found_grid(home, name, wishes, listening=LISTENING, progress=ignore_progress)


def node(start: int, end: int, state: State) -> NodeRecord:
    return NodeRecord(
        peer=PEER,
        version="0",
        model=ModelRoot("ab" * 32),
        start=start,
        end=end,
        state=state,
        dtype="float32",
        blocks_per_s=1.0,
        free_tokens=1,
        total_tokens=1,
        next_hop_ms={},
        addresses=[],
        since=0.0,
    )


def test_census() -> None:
    nodes = [node(0, 3, "serving"), node(2, 5, "serving"), node(5, 6, "joining"), node(0, 8, "draining")]
    seen = census([(8, nodes), (4, [])])
    assert (seen.covered, seen.blocks) == (5, 12)
    assert seen.sentence() == "2 serving, 1 joining, 1 draining · 5 of 12 blocks served"
    assert census([(4, [])]).sentence() == "no nodes yet · 0 of 4 blocks served"


def test_listening_is_strict() -> None:
    with pytest.raises(ValueError, match="extra"):
        Listening.model_validate_json(json.dumps({"host_maddrs": [], "announce_maddrs": [], "port": 1}))


async def test_the_first_peer_remembers_whom_it_saw(tmp_path: Path) -> None:
    network = MemoryNetwork()
    first, volunteer = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    signed = sign_charter(charter(), MAINTAINERS)
    pins = Pins(tmp_path)
    pins.pin(signed)
    entry = signed.charter.models[0]
    record = msgspec.structs.replace(
        node(0, 3, "serving"), peer=volunteer.peer, model=entry.model_root, addresses=list(volunteer.addresses)
    )
    await Directory(volunteer, signed.grid).publish(record)
    async for seen in watch(first, signed, pins, Gatekeeper(signed, NoticeBoard(signed))):
        assert (seen.states["serving"], seen.covered, seen.blocks) == (1, 3, entry.blocks)
        break
    assert pins.known_peers(signed) == {volunteer.peer: volunteer.addresses}
    assert pins.initial_peers(signed)[-1] == volunteer.addresses[0]
