"""What users see of paying: a generation's cost, its account, and the words about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest
import torch

from gridllm.errors import IdentityError, RouteError
from gridllm.identity.keys import Identity, load_or_create
from gridllm.ids import PeerId
from gridllm.ledger.messages import Wish
from gridllm_client import grid
from gridllm_client.cli.generate import generate
from gridllm_client.cli.show import cost_line
from gridllm_client.generation import Generation
from gridllm_client.grid import _account
from gridllm_client.loaded import Loaded
from gridllm_client.model import GridModel
from gridllm_client.runtime import Runtime
from gridllm_client.scoring import ChainScorer
from gridllm_client.tab import Bill
from gridllm_client.terms import Terms
from tests.unit.memory_grid import ROOT
from tests.unit.paid_grid import PaidGrid, paid, settled
from tests.unit.test_client_model import write_tokenizer
from tests.unit.tiny_models import LAYERS, make_model


@dataclasses.dataclass
class Paying:
    """A grid that is paid, and a model on it, as a user has them."""

    runtime: Runtime
    grid: PaidGrid
    model: GridModel


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paying]:
    tiny = make_model("llama", tmp_path_factory.mktemp("model"))
    write_tokenizer(tiny.folder)
    runtime, stack = Runtime(), AsyncExitStack()

    async def enter() -> PaidGrid:
        return await stack.enter_async_context(paid(tiny.folder, LAYERS, (0, 2, 5), tmp_path_factory.mktemp("home")))

    grid = runtime.run(enter())
    terms = Terms(model=ROOT, blocks=LAYERS, hidden_size=grid.ends.hidden_size, dtype=torch.float32)
    model = GridModel(runtime, grid.pool, Loaded("tiny", terms, grid.routes(), grid.ends), wallet=grid.wallet)
    yield Paying(runtime, grid, model)
    runtime.close(stack.aclose(), 20)


def test_a_model_says_which_it_is(paying: Paying):
    assert repr(paying.model) == "GridModel('tiny', float32)"


def test_a_generation_tells_what_it_cost(paying: Paying):
    made = paying.model.complete("Once upon a time", max_new_tokens=12, temperature=0)
    calls, rest = len(made.ids), made.prompt_tokens - 1  # nobody computed with the last token
    costs = [paying.grid.price(start, end, rest, calls) for start, end in ((0, 2), (2, 5))]
    assert [(bill.start, bill.end, bill.prefill, bill.decode) for bill in made.bills] == [
        (0, 2, rest, calls),
        (2, 5, rest, calls),
    ]
    assert made.spent == sum(costs)
    facts = made.as_json()
    assert facts["spent"] == made.spent
    assert facts["metered"][1] == {
        "peer": made.chain[1][0],
        "start": 2,
        "end": 5,
        "prefill": rest,
        "decode": calls,
        "micro": costs[1],
    }


def test_what_is_set_aside_is_what_it_may_cost(paying: Paying):
    asked = []

    async def watch() -> None:
        usual = paying.grid.keeper.keeper.escrows

        async def escrows(account: str, wishes: list[Wish]) -> list[bytes]:
            asked.append([wish.micro for wish in wishes])
            return await usual(account, wishes)

        paying.grid.keeper.keeper.escrows = escrows  # type: ignore[method-assign,assignment]

    paying.runtime.run(watch())
    made = paying.model.complete("Once upon a time " * 20, max_new_tokens=2)
    assert asked == [[paying.grid.price(start, end, made.prompt_tokens, 2) for start, end in ((0, 2), (2, 5))]]


def test_every_way_of_generating_pays(paying: Paying):
    """Several texts, a stream that is left early, transformers' own generate with beams: the books have it all."""

    async def spent() -> int:
        await settled()
        return await paying.grid.hand_in()

    before = paying.runtime.run(spent())
    made = Generation()
    for _ in paying.model.stream_into(made, "The fox", max_new_tokens=40):
        if len(made.ids) > 3:
            break
    assert len(paying.model.generate(["abc", "defg"], max_new_tokens=5)) == 2
    tokens = paying.model.tokenizer(["Hello there"], return_tensors="pt")
    paying.model.hf.generate(**tokens, max_new_tokens=6, num_beams=3, do_sample=False)
    after = paying.runtime.run(spent())
    assert after - before > made.spent > 0


def test_scoring_pays_what_was_set_aside(paying: Paying):
    """For each batch of rows one call to the keeper, and no more."""
    asked, rows = [], [[5, 6, 7, 8], [9, 10, 11, 12]]

    async def watch() -> None:
        usual = paying.grid.keeper.keeper.escrows

        async def escrows(account: str, wishes: list[Wish]) -> list[bytes]:
            asked.append([wish.micro for wish in wishes])
            return await usual(account, wishes)

        paying.grid.keeper.keeper.escrows = escrows  # type: ignore[method-assign,assignment]

    async def spent() -> int:
        await settled()
        return await paying.grid.hand_in()

    paying.runtime.run(watch())
    before = paying.runtime.run(spent())
    assert len(ChainScorer(paying.model).logprobs(rows, [1, 2])) == 2
    costs = [paying.grid.price(start, end, 4, 2) for start, end in ((0, 2), (2, 5))]
    assert paying.runtime.run(spent()) - before == sum(costs)
    assert len(asked) == 1
    assert all(micro >= cost for micro, cost in zip(asked[0], costs, strict=True))


def test_what_it_cost_in_words():
    made = Generation(bills=(Bill(PeerId("a"), 0, 4, 5, 6, 12_000), Bill(PeerId("b"), 4, 8, 5, 6, 345)))
    assert cost_line(made, None) == "  cost 0.012345 credits"
    assert cost_line(made, 4_200_000) == (
        "  cost 0.012345 credits; balance 4.2 (nodes may not have handed this cost in yet)"
    )
    assert cost_line(Generation(), 4_200_000) == "  cost 0 credits; balance 4.2"


def test_what_failed_tells_its_cost_all_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Model:
        def stream_into(self, made: Generation, prompt: str, **wishes: object) -> Iterator[str]:
            yield "Once"
            made.bills = (Bill(PeerId("a"), 0, 4, 5, 6, 12_000),)
            raise RouteError("No node is left.")

    class Entered:
        def __init__(self, **options: object) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *error: object) -> None: ...

        def model(self, *which: object, **options: object) -> Model:
            return Model()

    monkeypatch.setattr(grid, "Grid", Entered)
    with pytest.raises(RouteError):
        generate("A text")
    assert "cost 0.012 credits" in capsys.readouterr().err


def test_which_account_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRIDLLM_IDENTITY", raising=False)
    assert _account(None, tmp_path) is None, "no key is made for it"
    own = load_or_create(tmp_path / "identity.key")
    assert _account(None, tmp_path) == own
    other = load_or_create(tmp_path / "other.key")
    assert _account(tmp_path / "other.key", tmp_path) == _account(str(tmp_path / "other.key"), tmp_path) == other
    held = Identity.ephemeral()
    assert _account(held, tmp_path) is held
    with pytest.raises(IdentityError, match="no key file"):
        _account(tmp_path / "none.key", tmp_path)
