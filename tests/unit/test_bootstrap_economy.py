"""Credit in a charter: as typed at founding, as people read it, and what cannot be."""

import pytest

from gridllm.charter.document import Charter, ModelEntry
from gridllm.charter.economy import Economy, Tier, home_of
from gridllm.charter.minimums import Admission
from gridllm.cli.economy_view import economy_lines
from gridllm.errors import UsageError
from gridllm.quantities import parse_credits, spell_credits
from gridllm_bootstrap.founding.economy_flags import EconomyWishes

ROOT = "ab" * 32
ENTRY = ModelEntry(
    name="big", root=ROOT, source="local", blocks=8, parameters=2_000_000_000, hidden_size=64, dtype="float32"
)


def test_nothing_said_is_no_economy() -> None:
    assert EconomyWishes().settled([ENTRY]) == Economy()
    assert EconomyWishes(ledger=False).settled([ENTRY], usual=True) == Economy()
    assert EconomyWishes().settled([ENTRY], usual=True).required


def test_defaults_follow_from_the_first_model() -> None:
    economy = EconomyWishes(ledger=True).settled([ENTRY])
    assert economy.required
    assert economy.starter == parse_credits("20000"), "10,000 tokens through two billion parameters"
    assert economy.trust == parse_credits("4000")
    assert economy.newcomers == "lowest"


def test_any_flag_about_credit_says_that_there_is_a_ledger() -> None:
    economy = EconomyWishes(
        decode_price="0.5", prefill_price="0.125", tiers=("big=12.5",), classes=("100", "5"), submit="3", window=16
    ).settled([ENTRY])
    assert economy.required
    assert (economy.prices.decode, economy.prices.prefill) == (500, 125)
    assert economy.tiers == (Tier(model=ROOT, contribution=12_500_000),)
    assert economy.classes == (5_000_000, 100_000_000)
    assert [economy.priority(gave) for gave in (-1, 5_000_000, 10**12)] == [1, 2, 3]
    assert economy.tier(ROOT) == 12_500_000
    assert economy.tier("cd" * 32) == 0


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        (EconomyWishes(ledger=False, starter="1"), "leave out --no-ledger"),
        (EconomyWishes(starter="one"), "'one' is not an amount of credit"),
        (EconomyWishes(starter="0.0000001"), "not an amount of credit"),
        (EconomyWishes(tiers=("small=1",)), "names no model of this grid; write it like big=50"),
        (EconomyWishes(tiers=("big",)), "names no model"),
        (EconomyWishes(tiers=("big=0",)), "--tier 'big=0' asks for nothing; give an amount above 0"),
        (EconomyWishes(tiers=("big=1", "big=2")), "has two --tier"),
        (EconomyWishes(newcomers="everything"), "--newcomers 'everything' is not known; choose one of nothing"),
        (EconomyWishes(newcomers="allowance"), "say how much, like --allowance 5"),
        (EconomyWishes(newcomers="nothing", allowance="5"), "--allowance is only for --newcomers allowance"),
        (EconomyWishes(allowance="5"), "leave out --allowance"),
        (EconomyWishes(classes=("5", "5")), "Two --class flags have the same amount"),
        (EconomyWishes(trust="-1"), "--trust: '-1' is not an amount"),
        (EconomyWishes(escrow_life="8d"), "--escrow-life '8d' cannot be; choose 1 min to 7 d"),
        (EconomyWishes(decode_price="0.00001"), "too fine"),
        (EconomyWishes(window=0), "--window 0 cannot be; choose 1 to"),
        (EconomyWishes(escrow_life="1s"), "--escrow-life"),
        (EconomyWishes(keepers=("me",)), "--keeper 'me' is not a maintainer's public key"),
    ],
)
def test_what_cannot_be(wishes: EconomyWishes, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        wishes.settled([ENTRY])
    with pytest.raises(UsageError, match=told):
        wishes.check([ENTRY.name])


def _charter(economy: Economy) -> Charter:
    return Charter(
        name="g",
        maintainers=["11" * 32, "22" * 32],
        threshold=1,
        first_peers=[],
        models=[ENTRY],
        created="2026-11-21T00:00:00+00:00",
        economy=economy,
    )


def test_a_charter_names_its_keepers() -> None:
    assert _charter(Economy()).keepers == ["11" * 32, "22" * 32]
    assert _charter(Economy(keepers=("22" * 32,))).keepers == ["22" * 32]
    with pytest.raises(ValueError, match="is no maintainer"):
        _charter(Economy(keepers=("33" * 32,)))
    with pytest.raises(ValueError, match="does not serve"):
        _charter(Economy(tiers=(Tier(model="cd" * 32, contribution=1),)))


def test_people_read_the_policy_in_one_screen() -> None:
    open_grid = _charter(
        EconomyWishes(tiers=("big=2.5",), classes=("7",), submit="1", newcomers="nothing").settled([ENTRY])
    )
    assert "the first credit is what maintainers grant: gridllm bootstrap grant" in economy_lines(open_grid)
    lines = economy_lines(open_grid.model_copy(update={"admission": Admission(required=True)}))
    assert len(lines) <= 12
    said = "\n".join(lines)
    for part in ("costs 1 credit,", "prompt 0.25", "64 tokens", "starts with 20,000 credits", "served nothing"):
        assert part in said, said
    assert "big: for those who gave 2.5 credits more than they took" in said
    assert "priority class 2: for those who gave 7 credits" in said
    assert "leaderboard submissions: for those who gave 1 credit more" in said
    assert economy_lines(_charter(Economy())) == ["none: nothing is metered, nobody pays"]


def test_what_happens_while_a_keeper_is_silent_is_said_as_it_is() -> None:
    lowest = "\n".join(economy_lines(_charter(EconomyWishes(ledger=True, trust="1").settled([ENTRY]))))
    assert "each node trusts an account in good standing with 1 credit; beyond that it is served after all" in lowest
    assert "not paid" not in lowest
    untrusting = "\n".join(economy_lines(_charter(EconomyWishes(ledger=True, trust="0").settled([ENTRY]))))
    assert "served after all who pay, and nodes are not paid" in untrusting
    assert "trusts" not in untrusting
    nothing = "\n".join(economy_lines(_charter(EconomyWishes(newcomers="nothing", trust="1").settled([ENTRY]))))
    assert "each node trusts an account in good standing with 1 credit" in nothing
    assert "not paid" not in nothing


@pytest.mark.parametrize(
    ("text", "micro"), [("12", 12_000_000), ("0.25", 250_000), (" 1.000001 ", 1_000_001), ("0", 0)]
)
def test_amounts_are_read_exactly(text: str, micro: int) -> None:
    assert parse_credits(text) == micro


@pytest.mark.parametrize("text", ["-1", "1e3", "1,5", "", "nan", "1.0000001", "9" * 13, "٣"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not an amount of credit"):
        parse_credits(text)


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "0"), (250_000, "0.25"), (1_204_000_001, "1,204.000001"), (-1, "-0.000001"), (10**6, "1")]
)
def test_amounts_are_spelled_without_loss(micro: int, text: str) -> None:
    assert spell_credits(micro) == text


def test_every_account_has_one_home_and_homes_are_shared_out() -> None:
    keepers = [f"{number:064x}" for number in range(3)]
    homes = [home_of(f"{account:064x}", keepers) for account in range(300)]
    assert homes == [home_of(f"{account:064x}", keepers[::-1]) for account in range(300)], "order does not matter"
    assert all(60 < homes.count(keeper) < 140 for keeper in keepers)
    fewer = [home_of(f"{account:064x}", keepers[:2]) for account in range(300)]
    assert all(now == then for now, then in zip(fewer, homes, strict=True) if then != keepers[2]), "the others stay"
