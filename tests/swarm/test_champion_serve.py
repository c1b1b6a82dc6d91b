"""Three nodes that serve ``@champion`` go over to a new one, while clients generate without pause: none fails."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import CROWN_TYPE, LISTING_TYPE, Crown, Listing
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.pin import Pins
from gridllm.identity.keys import load
from gridllm.identity.statement import sign_statement
from gridllm.models.files import find_model
from gridllm.models.manifest import build_manifest, root
from gridllm_client import Grid
from tests.command import Running
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(420)

GRACE_S = 8
PIECE_S = 0.02  # a reader takes a piece of text in: without it, two clients keep the processors busy
GOES_S = 150.0  # for all nodes to have the new model, and to let the old one go


class Reader(threading.Thread):
    """A client that generates one text after the other."""

    def __init__(self, grid: ProcessGrid, name: str) -> None:
        super().__init__()
        self._data_dir, self._model = grid.data_dir, name
        self.began, self.done = threading.Event(), threading.Event()
        self.texts: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with Grid(self._data_dir) as joined:
                model = joined.model(self._model)
                while not self.done.is_set():
                    pieces = model.stream("Once upon a time", max_new_tokens=40)
                    self.texts.append("".join(self._taken_in(piece) for piece in pieces))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error

    def _taken_in(self, piece: str) -> str:
        self.began.set()
        time.sleep(PIECE_S)
        return piece

    def end(self) -> list[str]:
        """The texts, all of them whole."""
        self.done.set()
        self.join(60)
        assert self.error is None, self.error
        return self.texts


def sibling(folder: Path, entry: ModelEntry) -> ModelEntry:
    """The demo model with other weights, in ``folder``."""
    shutil.copytree(find_model("demo"), folder)
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    generator = torch.Generator().manual_seed(1)
    save_file(
        {
            name: (one.float() * (1 + 0.3 * torch.randn(one.shape, generator=generator))).to(one.dtype)
            for name, one in weights.items()
        },
        file,
        metadata={"format": "pt"},
    )
    return entry.model_copy(update={"name": "heir", "root": root(build_manifest(folder)), "source": "local"})


class Maintainer:
    """Signs as the leaderboard would; the first peer rereads the board, and passes it on."""

    def __init__(self, grid: ProcessGrid) -> None:
        home = grid.maintainer / "data" / "gridllm" / "bootstrap"
        self.pins = Pins(home)
        self.signed: SignedCharter = self.pins.current(None)
        (self._key,) = home.glob("grids/*/maintainer.key")
        self._crowned: list[str] = []

    def list(self, entry: ModelEntry) -> None:
        now = int(time.time())
        listing = Listing(grid=self.signed.grid, model=entry, submission="ab" * 32, contribution=0, issued=now)
        self._post(sign_statement(listing, LISTING_TYPE, [load(self._key)]))

    def crown(self, entry: ModelEntry) -> None:
        crown = Crown(
            grid=self.signed.grid,
            serial=len(self._crowned) + 1,
            root=entry.root,
            former=self._crowned[-1] if self._crowned else None,
            submission="ab" * 32,
            verdict="cd" * 32,
            issued=int(time.time()),
        )
        self._post(sign_statement(crown, CROWN_TYPE, [load(self._key)]))
        self._crowned.append(entry.root)

    def _post(self, notice: bytes) -> None:
        NoticeBoard(self.signed, self.pins.notices_path(self.signed)).add(notice)


def test_nodes_go_over_to_a_new_champion_and_no_generation_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "clients"))  # where this process keeps a model's ends
    follow = ("--model", "@champion", "--cache-tokens", "2048", "--grace", str(GRACE_S))
    with process_grid(tmp_path / "grid") as grid:
        maintainer = Maintainer(grid)
        demo = maintainer.signed.charter.models[0]
        heir = sibling(tmp_path / "heir", demo)
        maintainer.list(heir)
        maintainer.crown(demo)
        numbers = grid.add("0:3", "3:6", "6:8", extra=follow)
        args = ("--model", "heir", "--path", str(tmp_path / "heir"), "--identity", str(tmp_path / "seed.key"))
        with Running(grid.home, "seed", "--host-maddrs", LOOPBACK, *args) as seed:
            seed.wait_for("helping as seed")
            readers = [Reader(grid, "@champion"), Reader(grid, "demo")]
            for reader in readers:
                reader.start()
            for reader in readers:
                assert reader.began.wait(120), reader.error
            maintainer.crown(heir)
            lines = [grid.nodes[number].running for number in numbers]
            for running in lines:
                running.wait_for("of heir as", GOES_S)
            old = readers[1].end()
            for running in lines:
                running.wait_for("demo is served here no longer", GOES_S)
            deadline = time.monotonic() + GOES_S
            while readers[0].error is None and readers[0].texts[-1:] in ([], old[:1]):
                assert time.monotonic() < deadline, "the client stays with the old champion"
                time.sleep(0.1)
            new = readers[0].end()
            assert old and set(old) == {old[0]}, "greedy: the same text each time"
            assert set(new) == {old[0], new[-1]} and new[-1] != old[0], "each text is one model's, whole"
            assert [grid.stop(number) for number in numbers] == [0, 0, 0]
