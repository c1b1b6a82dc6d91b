"""``gridllm credit``: what is said of an account, its history line by line, and transfers that pay once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from gridllm.cli.credit import app, credit, history, outbox_of, parse_since, send
from gridllm.cli.main import named_command
from gridllm.errors import Draining, Full, Insufficient, KeeperSilent, LedgerError, PutOff, Refusal, TooSoon, UsageError
from gridllm.identity.keys import Identity
from gridllm.ledger.statements import peer_of_account
from gridllm.settings import load_settings
from tests.ledgers import hex_of
from tests.unit.ledger_desk import Desk, make_desk

CREDIT = 1_000_000
NODE, FRIEND = Identity.ephemeral(), Identity.ephemeral()
SESSIONS = [f"{number:032x}" for number in range(9)]


class Context:
    """What typer hands a group's callback."""

    invoked_subcommand = None


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return make_desk(tmp_path, monkeypatch, classes=(10 * CREDIT, 100 * CREDIT), submit=CREDIT, starter=3 * CREDIT)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    return lambda: json.loads(capsys.readouterr().out)


def show(**options: Any) -> None:
    credit(Context(), **options)  # type: ignore[arg-type]


def busy(desk: Desk) -> None:
    """This machine was granted 50 credits, used some tokens, and served some."""
    me, scribe = desk.me, desk.scribe
    desk.home.take(
        [
            scribe.grant(me, 50 * CREDIT, reason="for the [bold]soup"),
            scribe.escrow(me, NODE, 20 * CREDIT, session=SESSIONS[0], expires=int(time.time()) + 600),
            scribe.voucher(me, NODE, 100, 1, session=SESSIONS[0]),
            scribe.voucher(me, NODE, 100, 31, session=SESSIONS[0]),
            scribe.escrow(me, NODE, CREDIT, session=SESSIONS[1], expires=int(time.time()) + 600),
        ]
    )
    payer = next(one for one in iter(Identity.ephemeral, None) if desk.rules.home(hex_of(one)) == desk.other.key)
    desk.other.take(
        [
            scribe.grant(payer, 500 * CREDIT),
            scribe.escrow(payer, me, 200 * CREDIT, session=SESSIONS[2]),
            scribe.voucher(payer, me, 0, 100, session=SESSIONS[2], start=0, end=8),
            scribe.release(payer, me, session=SESSIONS[2]),
        ]
    )
    desk.exchange()


def test_an_account_in_json(desk: Desk, said: Callable[[], Any]) -> None:
    busy(desk)
    show(as_json=True)
    told = said()
    earned, spent = desk.scribe.price(0, 100), desk.scribe.price(100, 31)
    assert (told["granted"], told["earned"], told["spent"]) == (50 * CREDIT, earned, spent)
    assert told["balance"] == 50 * CREDIT + earned - spent
    assert told["escrowed"] == 21 * CREDIT - spent
    assert told["available"] == told["balance"] - told["escrowed"]
    assert told["contribution"] == earned - spent
    assert told["home_keeper"] == told["said_by"] == desk.home.key
    assert told["peer"] == desk.me.peer
    show(as_json=True, account=NODE.peer)
    assert said()["earned"] == spent
    show(as_json=True, account=hex_of(NODE).upper())
    assert said()["earned"] == spent
    with pytest.raises(UsageError, match="is no account"):
        show(account="somebody")


def test_what_it_opens_and_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = make_desk(tmp_path, monkeypatch, classes=(10 * CREDIT, 100 * CREDIT), submit=7 * CREDIT, starter=CREDIT)
    show()
    text = " ".join(capsys.readouterr().out.split())
    assert "demo: open" in text
    assert "priority class 1 of 3 for sessions that pay; class 2 from a contribution of 10 on" in text
    assert "leaderboard submissions: lacks 7 of a contribution of 7 credits" in text
    assert "without credit nothing is served" in text
    assert "gridllm serve — 1 credit for each token" in text
    assert "given 1 credit" not in text, "in an open grid nobody is admitted"
    assert desk.home.key in text


def test_a_tier_that_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from gridllm.charter.economy import Tier
    from gridllm.cli.credit_view import CreditView, credit_facts, credit_json
    from gridllm.ledger.messages import AccountView

    entry = desk.signed.charter.models[0]
    tier = Tier(model=entry.root, contribution=5 * CREDIT)
    economy = desk.signed.charter.economy.model_copy(update={"tiers": (tier,), "classes": ()})
    signed = type(desk.signed)(
        desk.signed.charter.model_copy(update={"economy": economy}), desk.signed.grid, desk.signed.raw
    )
    sums = AccountView("ab" * 32, 9 * CREDIT, 7 * CREDIT, 3 * CREDIT + 1, 0, 0)
    view = CreditView(signed, "ab" * 32, "12D3", desk.a.key, desk.b.key, sums)
    facts = credit_facts(view)
    assert "demo: lacks 1.000001 of a contribution of 5 credits" in facts["Opens"]
    assert "priority class 1 of 1 for sessions that pay" in facts["Opens"]
    assert "silent; as" in str(facts["Home keeper"])
    (model,) = credit_json(view)["opens"]["models"]
    assert (model["open"], model["lacking"]) == (False, CREDIT + 1)


def test_what_asks_for_nothing_is_open_to_who_took_more_than_it_gave(desk: Desk) -> None:
    from gridllm.cli.credit_view import CreditView, credit_facts, credit_json
    from gridllm.ledger.messages import AccountView

    sums = AccountView("ab" * 32, 9 * CREDIT, 0, CREDIT, 0, 0)
    view = CreditView(desk.signed, "ab" * 32, "12D3", desk.a.key, desk.b.key, sums)
    assert "demo: open" in credit_facts(view)["Opens"]
    (model,) = credit_json(view)["opens"]["models"]
    assert (model["open"], model["lacking"]) == (True, 0)


def test_history_has_one_line_for_each_bill(desk: Desk, said: Callable[[], Any]) -> None:
    busy(desk)
    desk.home.take([desk.scribe.enrolment(desk.me)])
    desk.home.take([desk.scribe.transfer(desk.me, FRIEND, 2 * CREDIT, memo="soup")])
    history(as_json=True, limit=30)
    lines = said()
    told = {line["what"]: line for line in lines}
    assert len(lines) == len(told) == 6
    earned, spent = desk.scribe.price(0, 100), desk.scribe.price(100, 31)
    assert (told["used"]["amount"], told["used"]["tokens"], told["used"]["account"]) == (-spent, 131, hex_of(NODE))
    assert (told["served"]["amount"], told["served"]["tokens"], told["served"]["model"]) == (earned, 100, "demo")
    assert (told["escrow"]["amount"], told["escrow"]["blocks"]) == (CREDIT, [0, 8])
    assert (told["grant"]["amount"], told["grant"]["text"]) == (50 * CREDIT, "for the [bold]soup")
    assert told["starter"]["amount"] == 3 * CREDIT
    assert (told["sent"]["amount"], told["sent"]["text"]) == (-2 * CREDIT, "soup")
    assert [line["what"] for line in lines][:2] == ["sent", "starter"]
    history(as_json=True, limit=2)
    assert [line["what"] for line in said()] == ["sent", "starter"]
    history(as_json=True, limit=30, since="2100-01-01")
    assert said() == []


def test_what_is_no_longer_set_aside_is_told_so(desk: Desk, said: Callable[[], Any]) -> None:
    me, scribe, soon = desk.me, desk.scribe, int(time.time()) + 600
    desk.home.take(
        [
            scribe.grant(me, 50 * CREDIT),
            scribe.escrow(me, NODE, CREDIT, session=SESSIONS[0], expires=soon),
            scribe.escrow(me, NODE, CREDIT, session=SESSIONS[1], expires=soon),
            scribe.release(me, NODE, session=SESSIONS[1]),
            scribe.escrow(me, NODE, CREDIT, session=SESSIONS[2], expires=int(time.time()) - 1),
        ]
    )
    history(as_json=True, limit=30)
    lines = [(line["what"], line["amount"]) for line in said()]
    assert lines == [("expired", 0), ("released", 0), ("escrow", CREDIT), ("grant", 50 * CREDIT)]


def test_history_as_a_table(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    history(limit=30)
    assert "Nothing yet." in capsys.readouterr().out
    busy(desk)
    history(limit=30)
    text = capsys.readouterr().out
    assert "[bold]soup" in text  # strangers' words are no markup
    assert "+50 " in text
    assert "(1)" in text
    assert "demo 0:8" in text


def test_history_goes_through_as_many_pages_as_it_takes(desk: Desk, said: Callable[[], Any]) -> None:
    desk.home.take([desk.scribe.grant(desk.me, CREDIT + number) for number in range(250)])
    history(as_json=True, limit=240)
    assert [line["amount"] for line in said()] == [CREDIT + number for number in reversed(range(10, 250))]


def test_beginnings() -> None:
    now = 1_800_000_000.0
    assert parse_since("7d", now) == now - 7 * 86400
    assert parse_since("12h", now) == now - 12 * 3600
    assert parse_since("2026-11-01", now) == 1793491200
    assert parse_since("2000000h", now) == 0
    with pytest.raises(UsageError, match="is not a starting time"):
        parse_since("yesterday", now)


def granted(desk: Desk, micro: int = 10 * CREDIT) -> None:
    desk.home.take([desk.scribe.grant(desk.me, micro)])
    desk.exchange()


def test_credit_is_sent(desk: Desk, said: Callable[[], Any]) -> None:
    granted(desk)
    send(FRIEND.peer, "2.5", memo="soup", yes=True, as_json=True)
    told = said()
    assert (told["payee"], told["amount"], told["balance"]) == (hex_of(FRIEND), 2_500_000, 7_500_000)
    assert told["sent_before"] is False
    assert desk.home.books.account(hex_of(FRIEND)).balance == 2_500_000
    assert left(desk) == 0
    send(hex_of(FRIEND), "2.5", memo="soup", yes=True, as_json=True)  # answered before: another transfer
    assert said()["balance"] == 5_000_000


def test_an_account_in_no_book_is_remarked_upon_before_the_question(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(desk)

    def refuse(*_: Any, **__: Any) -> None:
        assert "not in the ledger yet" in capsys.readouterr().err
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", refuse)
    with pytest.raises(typer.Abort):
        send(FRIEND.peer, "1")
    send(FRIEND.peer, "1", yes=True)
    assert "not in the ledger yet" in capsys.readouterr().err
    desk.exchange()
    send(FRIEND.peer, "1", yes=True)
    told = capsys.readouterr()
    assert "not in the ledger yet" not in told.err
    assert "Sent 1 credit to" in told.out


def left(desk: Desk) -> int:
    return len(outbox_of(load_settings(), desk.signed, desk.pins).pending())


def test_a_transfer_whose_answer_is_lost_pays_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    granted(desk)
    desk.home.lost_answers = 1
    with pytest.raises(KeeperSilent):
        send(FRIEND.peer, "2.5", yes=True)
    assert desk.home.books.account(hex_of(FRIEND)).balance == 2_500_000
    assert left(desk) == 1
    send(FRIEND.peer, "2.5", yes=True)
    out, err = capsys.readouterr()
    assert "never answered; sending it again" in err
    assert "nothing was sent now" in out
    assert desk.home.books.account(hex_of(FRIEND)).balance == 2_500_000
    assert left(desk) == 0


def test_a_transfer_that_did_not_arrive_is_handed_in_before_the_next(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    granted(desk)
    desk.silent = {desk.home.key}
    with pytest.raises(KeeperSilent):
        send(FRIEND.peer, "2.5", yes=True)
    desk.silent = set()
    send(FRIEND.peer, "1", yes=True)
    assert "An earlier transfer of 2.5 credits" in capsys.readouterr().err
    assert desk.home.books.account(hex_of(FRIEND)).balance == 3_500_000
    assert left(desk) == 0


def test_a_transfer_that_is_declined_is_forgotten(desk: Desk) -> None:
    granted(desk)
    with pytest.raises(Insufficient):
        send(FRIEND.peer, "11", yes=True)
    assert left(desk) == 0
    assert desk.home.books.account(hex_of(FRIEND)).balance == 0


@pytest.mark.parametrize("refusal", [Full, TooSoon, Draining])
def test_a_keeper_that_is_busy_has_declined_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refusal: type[Refusal]
) -> None:
    granted(desk)

    async def busy_now(*_: object) -> bytes:
        raise refusal("Others come first.")

    with monkeypatch.context() as patch:
        patch.setattr(type(desk.home), "_submit", busy_now)
        for payee in (
            FRIEND,
            FRIEND,
            NODE,
        ):  # the second time the same command; then another, which hands that in first
            with pytest.raises(PutOff, match=r"Others come first\)\. It is kept here: run the same command again"):
                send(payee.peer, "2.5", yes=True)
            assert left(desk) == 1
    assert "declined" not in capsys.readouterr().err
    send(FRIEND.peer, "2.5", yes=True)
    assert (desk.home.books.account(hex_of(FRIEND)).balance, left(desk)) == (2_500_000, 0)


def test_transfers_of_others_and_of_other_grids_are_left_alone(desk: Desk) -> None:
    outbox = outbox_of(load_settings(), desk.signed, desk.pins)
    outbox.write(hex_of(FRIEND), 5, "")
    assert len(outbox.pending()) == 1
    assert type(outbox)(outbox.folder, desk.signed, FRIEND).pending() == []
    (path,) = outbox.folder.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"A'))
    assert outbox.pending() == []


def test_what_cannot_be_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for payee, amount, says in (
        (desk.me.peer, "1", "your own account"),
        (FRIEND.peer, "0", "positive"),
        (FRIEND.peer, "a lot", "not an amount"),
        ("nobody", "1", "is no account"),
    ):
        with pytest.raises(UsageError, match=says):
            send(str(payee), amount, yes=True)
    with pytest.raises(UsageError, match="add --yes"):
        send(FRIEND.peer, "1")


def test_a_silent_home_is_spoken_for_by_another(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    granted(desk)
    desk.silent = {desk.home.key}
    show()
    assert "10 credits" in (text := capsys.readouterr().out)
    assert f"(silent; as {desk.other.key[:16]}… knew it)" in text
    desk.silent = {desk.a.key, desk.b.key}
    with pytest.raises(KeeperSilent, match=desk.home.key[:16]):
        show()


def test_grids_without_credit_say_so(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_desk(tmp_path / "other", monkeypatch, required=False)
    for command in (show, history, lambda: send(FRIEND.peer, "1", yes=True)):
        with pytest.raises(LedgerError, match="keeps no ledger"):
            command()


def test_the_group_has_its_commands() -> None:
    command = named_command("credit", app)
    assert isinstance(command, typer.core.TyperGroup)
    assert set(command.commands) == {"history", "send"}
    assert peer_of_account(hex_of(FRIEND)) == FRIEND.peer
