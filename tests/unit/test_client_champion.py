"""``@champion`` under load: no generation fails while the crown changes, and each text is wholly of one model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

from gridllm.errors import CharterError, GridError, ModelError, NodeFault, NotEntitled, RouteError, UsageError
from gridllm_client import champion as champion_module
from gridllm_client import listing
from gridllm_client.attempts import pieces_from
from gridllm_client.cli.generate import generate
from gridllm_client.generation import Generation
from gridllm_client.loaded import Choice, Fixed, Loaded
from gridllm_client.model import GridModel
from gridllm_client.prompts import Wishes
from gridllm_client.terms import OnEvent
from tests.unit.crowned_grid import PROMPT, TOKENS, Book, CrownedGrid, book_of

THREADS = 8


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> list[Book]:
    made = [book_of(family, tmp_path_factory.mktemp(family)) for family in ("llama", "olmo2", "qwen3")]
    assert len({book.text for book in made}) == 3
    return made


@pytest.fixture
def crowned(books: list[Book], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrownedGrid]:
    """The charter's model is served, and champion."""
    monkeypatch.setattr(champion_module, "LOOK_S", 0.05)
    monkeypatch.setattr(champion_module, "RETRY_S", 0.2)
    monkeypatch.setattr(listing, "FRESH_S", 0.1)
    grid = CrownedGrid.founded(books, tmp_path / "home")
    grid.runtime.run(grid.serve(books[0]))
    grid.runtime.run(grid.crown(books[0]))
    yield grid
    grid.end()


def wait_for(fact: Callable[[], bool], timeout_s: float = 90.0) -> None:
    until = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


class Load:
    """Threads that generate again and again."""

    def __init__(self, model: GridModel) -> None:
        self.begun: list[Generation] = []
        self.made: list[Generation] = []
        self.faults: list[Exception] = []
        self._model = model
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._enough.is_set():
            made = Generation()
            self.begun.append(made)
            try:
                for _ in self._model.stream_into(made, PROMPT, max_new_tokens=TOKENS, temperature=0):
                    pass
                self.made.append(made)
            except Exception as fault:  # noqa: BLE001  # of whatever kind, it fails the test
                self.faults.append(fault)
                return

    def of(self, book: Book) -> int:
        """Texts that the model made so far."""
        return sum(one.model == book.entry.name for one in self.made)

    def waits(self, old: Book, new: Book) -> bool:
        """Whether somebody was told that it waits for the new champion."""
        told = f"from {old.entry.name} to the new champion {new.entry.name}"
        return any(event.kind == "waiting" and told in event.text for one in self.begun for event in one.events)

    def check(self, books: list[Book]) -> None:
        """None failed, and each is exactly what its model makes."""
        assert not self.faults, self.faults
        texts = {book.entry.name: (book.text, book.entry.root) for book in books}
        assert {(one.text, one.root) == texts[one.model] for one in self.made} == {True}


def test_the_crown_changes_under_load(crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch):
    """New nodes stand before the old ones go; then once more, the old ones going first."""
    old, new, third = books
    with crowned.client(monkeypatch) as client:
        model = client.model("@champion")
        assert model.name == old.entry.name
        with Load(model) as load:
            wait_for(lambda: load.of(old) >= THREADS)

            async def before() -> None:
                await crowned.crown(new, tell=client)
                await asyncio.sleep(0.3)  # nobody serves it yet
                assert not load.of(new)
                await crowned.serve(new)

            crowned.runtime.run(before())
            wait_for(lambda: load.of(new) >= THREADS)
            crowned.runtime.run(crowned.retire(old))
            wait_for(lambda: load.of(new) >= 3 * THREADS)

            async def left() -> None:
                await crowned.crown(third)  # of which the client has yet to hear
                await crowned.retire(new)

            crowned.runtime.run(left())
            wait_for(lambda: load.waits(new, third))
            crowned.runtime.run(crowned.serve(third))
            wait_for(lambda: load.of(third) >= THREADS)
        load.check(books)
        assert model.name == third.entry.name


def test_what_began_on_the_old_one_ends_on_it(crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch):
    old, new, _ = books
    with crowned.client(monkeypatch) as client:
        model, made = client.model("@champion"), Generation()
        pieces = model.stream_into(made, PROMPT, max_new_tokens=TOKENS, temperature=0)
        first = next(pieces)

        async def change() -> None:
            await crowned.serve(new)
            await crowned.crown(new, tell=client)

        crowned.runtime.run(change())
        wait_for(lambda: model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0).text == new.text)
        assert model.name == new.entry.name
        assert first + "".join(pieces) == old.text
        assert (made.model, made.as_json()["root"]) == (old.entry.name, old.entry.root)


def test_a_new_champion_that_cannot_be_loaded(crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch):
    """Nobody has its manifest: the old one goes on, until a sound one is crowned."""
    old, new, _ = books
    with crowned.client(monkeypatch) as client:
        model = client.model("@champion")
        broken = new.entry.model_copy(update={"root": "ef" * 32, "name": "broken"})
        crowned.runtime.run(crowned.crown(new, entry=broken, tell=client))
        for _ in range(3):
            assert model.generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == old.text
            time.sleep(0.2)
        crowned.runtime.run(crowned.serve(new))
        crowned.runtime.run(crowned.crown(new, tell=client))
        wait_for(lambda: model.generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == new.text)


def test_whoever_enters_during_the_change_gets_the_one_before(
    crowned: CrownedGrid, books: list[Book], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(champion_module, "MOVE_S", 0.1)
    old, new, _ = books
    crowned.runtime.run(crowned.crown(new))
    with crowned.client(monkeypatch, tmp_path / "another") as client:
        model = client.model("@champion")
        assert model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0).text == old.text
        crowned.runtime.run(crowned.serve(new))
        wait_for(lambda: model.generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == new.text)


def test_neither_is_served(crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(champion_module, "MOVE_S", 0.1)
    with crowned.client(monkeypatch) as client:
        model = client.model("@champion")
        crowned.runtime.run(crowned.retire(books[0]))
        with pytest.raises(RouteError):
            model.generate(PROMPT)


def test_listed_models_by_name_and_status(
    crowned: CrownedGrid, books: list[Book], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A client that has heard nothing yet asks before it says that there is no such model."""
    old, new, third = books
    crowned.runtime.run(crowned.crown(new))
    crowned.runtime.run(crowned.serve(new))
    with crowned.client(monkeypatch, tmp_path / "fresh") as client:
        assert not client._net.board.raws()
        assert client.model(new.entry.name).generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == new.text
        assert client.model(new.entry.root) is client.model(new.entry.name)
        with pytest.raises(CharterError, match="serves no model"):
            client.model(third.entry.name)
        with pytest.raises(UsageError, match="no folder"):
            client.model("@champion", path=tmp_path)
    with crowned.client(monkeypatch, tmp_path / "fresher") as client:
        assert {name: len(nodes) for name, nodes in client.status().items()} == {old.entry.name: 2, new.entry.name: 2}


def test_a_grid_without_champion(books: list[Book], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grid = CrownedGrid.founded(books, tmp_path)
    try:
        with grid.client(monkeypatch) as client, pytest.raises(CharterError, match="no champion yet"):
            client.model("@champion")
    finally:
        grid.end()


def test_the_command(
    crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It says which model it was."""
    import json

    client = crowned.client(monkeypatch)
    monkeypatch.setattr("gridllm_client.grid.Grid", lambda **_: client)
    generate(PROMPT, model="@champion", max_new_tokens=TOKENS, temperature=0, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["text"], facts["model"], facts["root"]) == (books[0].text, books[0].entry.name, books[0].entry.root)


def test_token_ids_need_a_model_that_stays(crowned: CrownedGrid, books: list[Book], monkeypatch: pytest.MonkeyPatch):
    old, new, _ = books
    with crowned.client(monkeypatch) as client:
        model: GridModel = client.model("@champion")
        fixed = model.fixed()
        crowned.runtime.run(crowned.serve(new))
        crowned.runtime.run(crowned.crown(new, tell=client))
        wait_for(lambda: model.generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == new.text)
        assert fixed.generate(PROMPT, max_new_tokens=TOKENS, temperature=0) == old.text
        assert (fixed.name, model.name) == (old.entry.name, new.entry.name)


class Refusing:
    """A session whose nodes do not take it."""

    bills = ()

    def __init__(self, error: GridError) -> None:
        self.error = error

    async def open(self) -> None:
        raise self.error

    def close(self) -> None: ...


class Several(Fixed):
    """An heir that does not stand yet, then the model that does."""

    def __init__(self, heir: Loaded, now: Loaded) -> None:
        super().__init__(now)
        self.heir = heir

    async def choices(self, wait_s: float, tell: OnEvent) -> AsyncGenerator[Choice, None]:
        yield Choice(self.heir, 0.0)
        yield Choice(self.now, wait_s)


@pytest.mark.parametrize(
    ("of_heir", "of_now", "raised"),
    [
        (NotEntitled("give more"), RouteError("gone"), NotEntitled),  # no other model is offered in its place
        (NodeFault("odd"), RouteError("gone"), RouteError),
        (ModelError("bad"), NotEntitled("give more"), NotEntitled),
        (RouteError("none"), RouteError("gone"), RouteError),
    ],
    ids=["tier", "fault", "model", "nobody"],
)
def test_what_is_told_when_nodes_take_neither(
    crowned: CrownedGrid,
    monkeypatch: pytest.MonkeyPatch,
    of_heir: GridError,
    of_now: GridError,
    raised: type[GridError],
):
    with crowned.client(monkeypatch) as client:
        now = client.model()._source.now
        heir = Loaded("heir", now.terms, now.routes, now.ends)

        def make(loaded: Loaded, **_: object) -> Refusing:
            return Refusing(of_heir if loaded is heir else of_now)

        async def run() -> list[str]:
            pieces = pieces_from(Several(heir, now), make, PROMPT, Wishes(), Generation())  # type: ignore[arg-type]
            return [piece async for piece in pieces]

        with pytest.raises(raised) as told:
            crowned.runtime.run(run())
        assert told.value is (of_heir if raised is NotEntitled and isinstance(of_heir, NotEntitled) else of_now)
