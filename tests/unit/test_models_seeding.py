"""Weights travel from seeds to whoever lacks them: checked, resumed, and never from a liar."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from gridllm.errors import Malformed, ModelError, NotHeld, PeerLost, Refusal, WrongModel
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.models import fetching, seeding
from gridllm.models.cached import PART_PREFIX
from gridllm.models.ends import Ends
from gridllm.models.fetching import obtain_weights
from gridllm.models.files import find_model
from gridllm.models.manifest import Manifest, build_manifest, root
from gridllm.models.seeding import Seeding, Shelf, verify_files
from gridllm.models.span import load_span
from gridllm.models.weights import Checkpoint
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire import weights
from gridllm.wire.weights import WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, decode_want, encode

Seeds = dict[PeerId, tuple[str, ...]]
Spoil = Callable[[int, Stream], Awaitable[Callable[[bytes], bytes] | None]]


@cache
def demo() -> tuple[Path, Manifest, ModelRoot]:
    folder = find_model("demo")
    manifest = build_manifest(folder)
    return folder, manifest, root(manifest)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, so that every tensor takes several; short pauses."""
    for module in (weights, seeding, fetching):
        monkeypatch.setattr(module, "PIECE_BYTES", 8 * 1024)
    monkeypatch.setattr(fetching, "PAUSE_S", 0.01)
    monkeypatch.setattr(fetching, "LOOK_EVERY_S", 0.01)


class Hall:
    """Seeds of the demo model and one reader."""

    def __init__(self, cache_dir: Path) -> None:
        self.network = MemoryNetwork()
        self.reader = self.network.join(Identity.ephemeral())
        self.cache_dir = cache_dir
        self.seeds: Seeds = {}
        self.progress: list[tuple[int, int]] = []

    def join(self) -> MemorySwarm:
        swarm = self.network.join(Identity.ephemeral())
        self.seeds[swarm.peer] = swarm.addresses
        return swarm

    async def seed(self) -> Seeding:
        folder, manifest, name = demo()
        shelf = Shelf()
        shelf.put(name, manifest, folder)
        made = Seeding(shelf)
        await made.serve(self.join())
        return made

    async def cheat(self, after: int, spoil: Callable[[Piece, bytes], tuple[Piece, bytes] | None]) -> list[int]:
        """A seed that is honest for ``after`` pieces; then ``spoil`` says what it sends; None: it dies."""
        folder, manifest, name = demo()
        shelf = Shelf()
        shelf.put(name, manifest, folder)
        inner, swarm, sent = Seeding(shelf), self.join(), [0]

        async def answer(stream: Stream) -> None:
            while True:
                size, body = await inner._piece(decode_want((await stream.read()).header))
                sent[0] += 1
                made: tuple[Piece, bytes] | None = (Piece(size), body)
                if sent[0] > after:
                    made = spoil(Piece(size), body)
                if made is None:
                    self.network.kill(swarm.peer)
                    return
                await stream.write(encode(made[0]), made[1])

        async def quietly(stream: Stream) -> None:
            try:
                await answer(stream)
            except (PeerLost, Refusal):
                return

        await swarm.serve_streams(WEIGHTS_STREAM, quietly)
        return sent

    async def fetch(self, blocks: tuple[int, int] | None = None, ends: bool | None = None) -> Path:
        _, manifest, name = demo()

        async def find() -> Seeds:
            return self.seeds

        def progress(done: int, total: int) -> None:
            self.progress.append((done, total))

        async with asyncio.timeout(100):
            return await obtain_weights(
                self.reader,
                name,
                manifest,
                self.cache_dir,
                find,
                name="demo",
                blocks=blocks,
                ends=ends,
                progress=progress,
            )


@pytest.fixture
async def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def assert_sound(folder: Path) -> None:
    """Every tensor of the folder is the manifest's, and nothing half-fetched lies about."""
    checkpoint = Checkpoint.open(folder)
    for name in checkpoint.names:
        assert checkpoint.digest(name) == demo()[1].tensors[name].sha256
    assert not list(folder.glob(f"{PART_PREFIX}*"))


async def test_a_whole_model_comes_over_and_is_the_same(hall: Hall) -> None:
    await hall.seed()
    folder = await hall.fetch()
    verify_files(folder, demo()[1])
    assert set(Checkpoint.open(folder).names) == set(demo()[1].tensors)
    assert_sound(folder)
    assert hall.progress[-1][0] == hall.progress[-1][1]


async def test_a_span_and_the_ends_are_fetched_alone_and_compute_the_same(hall: Hall) -> None:
    here, manifest, _ = demo()
    made = await hall.seed()
    folder = await hall.fetch(blocks=(2, 4))
    assert not any("embed" in name for name in Checkpoint.open(folder).names)
    span, plain = load_span(folder, manifest, 2, 4), load_span(here, manifest, 2, 4)
    for mine, theirs in zip(span.base.parameters(), plain.base.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    sent = made.sent_bytes
    await hall.fetch(ends=True)
    ends, whole = Ends.load(folder, manifest), Ends.load(here, manifest)
    ids, positions = torch.tensor([5, 6, 7]), torch.tensor([0, 1, 2])
    assert torch.equal(ends.embed(ids, positions), whole.embed(ids, positions))
    assert ends.tokenizer("Once upon a time")["input_ids"] == whole.tokenizer("Once upon a time")["input_ids"]
    assert ends.generation_config.to_dict() == whole.generation_config.to_dict()
    assert sent < made.sent_bytes < sum(entry.size for entry in manifest.tensors.values())


async def test_what_is_in_the_cache_is_not_fetched_again(hall: Hall) -> None:
    made = await hall.seed()
    folder = await hall.fetch(blocks=(0, 2))
    sent = made.sent_bytes
    await hall.fetch(blocks=(0, 2))
    assert made.sent_bytes == sent
    victim = next(folder.glob("*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])
    await hall.fetch(blocks=(0, 2))
    assert made.sent_bytes > sent
    hall.seeds.clear()
    await hall.fetch(blocks=(0, 2))  # nobody is asked at all


async def test_another_seed_goes_on_where_one_died(hall: Hall) -> None:
    sent = await hall.cheat(37, lambda *_: None)
    hall.network.latency_s = 0.001
    waiting = asyncio.create_task(hall.fetch())
    while sent[0] < 37:  # noqa: ASYNC110 - a seed counts plain numbers
        await asyncio.sleep(0.005)
    made = await hall.seed()
    assert_sound(await waiting)
    whole = sum(entry.size for entry in demo()[1].tensors.values())
    assert made.sent_bytes < whole  # what came before the death is not fetched again


async def test_a_seed_that_lies_is_not_believed_and_asked_no_more(hall: Hall) -> None:
    sent = await hall.cheat(5, lambda piece, body: (piece, bytes(len(body))))
    await hall.seed()
    assert_sound(await hall.fetch())
    most = max(entry.size for entry in demo()[1].tensors.values()) // (8 * 1024) + 1
    assert sent[0] <= 5 + 4 * most  # one tensor on each of its two streams, and what was asked for ahead


async def test_a_liar_alone_gives_nothing(hall: Hall) -> None:
    await hall.cheat(0, lambda piece, body: (piece, body[:-1] + bytes([body[-1] ^ 1]) if body else body))
    with pytest.raises(ModelError, match=r"gridllm seed --model demo --path <folder>.*or give their folder"):
        await hall.fetch()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda piece, body: (piece, body + b"x"),
        lambda piece, body: (piece, b""),
        lambda piece, body: (Piece(piece.size + 1), body),
        lambda piece, body: (Piece(2**40), body),
    ],
)
async def test_pieces_that_do_not_fit_end_the_stream(
    hall: Hall, spoil: Callable[[Piece, bytes], tuple[Piece, bytes]]
) -> None:
    await hall.cheat(3, spoil)
    with pytest.raises(ModelError, match="Nobody hands out"):
        await hall.fetch()
    await hall.seed()
    assert_sound(await hall.fetch())


async def test_nobody_is_there(hall: Hall) -> None:
    with pytest.raises(ModelError, match=r"Nobody hands out \d+ parts of 'demo'.*gridllm seed"):
        await hall.fetch()


async def test_several_seeds_share_the_work(hall: Hall) -> None:
    hall.network.latency_s = 0.002
    made = [await hall.seed() for _ in range(3)]
    assert_sound(await hall.fetch())
    assert all(one.sent_bytes > 0 for one in made)
    assert sum(one.sent_bytes for one in made) < 1.1 * hall.progress[-1][1]


async def ask(swarm: MemorySwarm, peer: PeerId, *headers: bytes) -> list[Piece | Declined]:
    stream = await swarm.open_stream(peer, WEIGHTS_STREAM)
    answers = []
    for header in headers:
        await stream.write(header)
        async with asyncio.timeout(60):
            answers.append(decode_answer((await stream.read()).header))
    await stream.close()
    return answers


async def test_a_seed_names_what_it_refuses_and_lives_on(hall: Hall) -> None:
    await hall.seed()
    (peer,) = hall.seeds
    _, manifest, name = demo()
    tensor = next(iter(manifest.tensors))
    whole = manifest.tensors[tensor].size
    asked = [
        Want("0" * 64, tensor, 0),
        Want(name, "no.such.tensor", 0),
        Want(name, "../../etc/passwd", 0, file=True),
        Want(name, "config.json", 0, file=True),
        Want(name, tensor, whole + 1),
        Want(name, tensor, whole),
    ]
    answers = await ask(hall.reader, peer, *map(encode, asked))
    codes = [one.code if isinstance(one, Declined) else "" for one in answers]
    assert codes == [WrongModel.code, NotHeld.code, NotHeld.code, NotHeld.code, "bad_position", ""]
    for garbage in (b"", b"\xc1", bytes(1000), b"\x81\xa1t\xa4want", hashlib.sha512(b"x").digest()):
        (answer,) = await ask(hall.reader, peer, garbage)
        assert isinstance(answer, Declined)
        assert answer.code == Malformed.code
    assert_sound(await hall.fetch(blocks=(0, 1)))


async def test_a_peer_gets_no_more_than_its_share_of_streams(hall: Hall) -> None:
    made = await hall.seed()
    (peer,) = hall.seeds
    want = encode(Want(demo()[2], next(iter(demo()[1].tensors)), 0))
    streams = [await hall.reader.open_stream(peer, WEIGHTS_STREAM) for _ in range(3)]
    for stream in streams[:2]:
        await stream.write(want)
        assert isinstance(decode_answer((await stream.read()).header), Piece)
    async with asyncio.timeout(60):
        answer = decode_answer((await streams[2].read()).header)
    assert isinstance(answer, Declined)
    assert answer.code == "full"
    assert made.readers == 1
    for stream in streams:
        await stream.close()


def test_a_seed_checks_its_own_files(tmp_path: Path) -> None:
    here, manifest, _ = demo()
    for file in here.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    verify_files(tmp_path, manifest)
    weights_file = tmp_path / "model.safetensors"
    raw = bytearray(weights_file.read_bytes())
    raw[-1] ^= 1
    weights_file.write_bytes(raw)
    with pytest.raises(ModelError, match="is not the grid's"):
        verify_files(tmp_path, manifest)
