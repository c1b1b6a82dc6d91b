"""Cheats by authors, each with real keys against a whole leaderboard in memory: how each of them ends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.charter.fetch import fetch_manifest
from gridllm.errors import BadPayment, GridError, Malformed, NotAccepted, Refusal, WrongModel
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import sign as sign_entry
from gridllm.ledger.statements import Grant, Transfer
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk.proclaiming import Proclaimer
from gridllm_leaderboard.payments import memo_for
from gridllm_leaderboard.statements import Submission, Withdrawal, sign
from gridllm_leaderboard.upload.sending import Bundle
from tests.unit.cheats import bring, claim, model, one_value_changed, send, sharded, swarm_of
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house

THIEF = Identity.ephemeral()


async def refused(made: House, said: Submission, author: Identity) -> str:
    """Why a submission is not taken."""
    with pytest.raises(NotAccepted) as told:
        await made.enter(said, author)
    return str(told.value)


async def test_the_same_weights_under_another_name_config_or_sharding(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.submit(1)
        again = model(tmp_path / "again", 1)
        assert "submitted before, as 'model 1'" in await refused(made, claim(made, again, THIEF, "mine"), THIEF)
        split = sharded(tmp_path / "split", 1)
        assert "submitted before" in await refused(made, claim(made, split, THIEF, "mine"), THIEF)
        idle = model(tmp_path / "idle", 1, idle_key=7)
        sentence = await refused(made, claim(made, idle, THIEF, "mine"), THIEF)
        assert "another name, config or sharding does not make another model" in sentence
        lie = claim(made, idle, THIEF, "mine", weights="ab" * 32)  # so that nobody knows them again
        view = await made.enter(lie, THIEF)
        with pytest.raises(Malformed, match="another size, number of parameters or weights"):
            await bring(made, tmp_path / "idle", idle, view.id, THIEF)
        assert (await made.view(view.id)).state == "refused"


def altered(raw: bytes, old: bytes, new: bytes) -> bytes:
    """An envelope whose content was changed after it was signed."""
    envelope = json.loads(raw)
    payload = base64.b64decode(envelope["payload"])
    assert old in payload
    envelope["payload"] = base64.b64encode(payload.replace(old, new)).decode()
    return json.dumps(envelope, separators=(",", ":")).encode()


async def test_a_submission_altered_after_the_lock(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        first = made.submission(1)
        id_ = (await made.enter(first)).id
        await made.bring(1, id_)
        await made.until_work(made.grader)
        for changes in ({"name": "better"}, {"serve": False}, {"issued": first.issued + 1}):
            assert "submitted before" in await refused(made, first.model_copy(update=changes), made.author)
        raw = altered(sign(first, made.author), b"model 1", b"model 9")
        with pytest.raises(NotAccepted, match="cannot be used"):
            await made.ask(made.author, messages.ENTER_CALL, messages.Enter(raw), messages.SubmissionView)
        with pytest.raises(NotAccepted, match="is locked: no files are awaited"):
            await made.bring(1, id_)
        other = model(tmp_path / "other", 1, one_value_changed(1))
        with pytest.raises(NotAccepted, match="is locked"):
            await bring(made, tmp_path / "other", other, id_, made.author)
        assert (await made.enter(first)).state == "locked"  # said again it is the same
        assert (await made.view(id_)).root == first.root


async def test_what_is_graded_is_nobodys_to_copy(tmp_path: Path) -> None:
    """Who had a locked model's manifest could submit its weights, which are here, without having them."""
    async with house(tmp_path) as made:
        id_ = await made.submit(1, serve=False)
        await made.until_work(made.grader)
        root = ModelRoot((await made.view(id_)).root)
        assert await fetch_manifest(swarm_of(made, made.grader), made.peer, root)
        with pytest.raises(WrongModel):
            await fetch_manifest(swarm_of(made, THIEF), made.peer, root)
        await made.grade_all(lambda _: 0.5)
        await made.until(id_, "graded")
        with pytest.raises(WrongModel):  # it is ranked, and not served: nobody ever gets it
            await fetch_manifest(swarm_of(made, THIEF), made.peer, root)


async def test_a_large_model_is_nobodys_to_copy_into_its_own_round(tmp_path: Path) -> None:
    """Nodes get it before it is graded; a copy that comes after the lock can only be its equal."""
    async with house(tmp_path, round_s=10**5) as made:
        id_ = await made.submit(1)
        await made.until(id_, "queued")
        assert made.opened is not None
        early = Proclaimer(made.opened.desk, made.maintainer, tmp_path, list_above=0)
        await early.go_on()
        assert not made.board.listings
        made.say_rules(round_s=0)
        await made.until(id_, "locked")
        await early.go_on()
        assert [one.submission for one in made.board.listings] == [id_]


async def test_a_copycat_who_changes_one_value_never_takes_the_crown(tmp_path: Path) -> None:
    async with house(tmp_path, bounty=5 * CREDIT) as made:
        first = await made.submit(1)
        await made.until_work(made.grader)
        await made.grade_all(lambda _: 0.5)
        await made.until_told("bounty")
        copy = model(tmp_path / "copy", 1, one_value_changed(1))
        view = await made.enter(claim(made, copy, THIEF, "mine"), THIEF)
        await bring(made, tmp_path / "copy", copy, view.id, THIEF)
        await made.until(view.id, "locked")
        await made.grade_all(lambda _: 0.5)  # it answers as the original
        assert not (await made.until(view.id, "graded")).champion
        rank = await made.until_ranked(first, view.id)
        assert [(row.place, row.champion) for row in rank.rows if row.submission == first] == [(1, True)]
        assert {row.place for row in rank.rows} == {1}  # a tie, and shown as one
        keepers = Keepers(swarm_of(made, THIEF), made.signed)
        assert (await keepers.account(hex_of(THIEF))).granted == 0


async def booked(made: House, raws: list[bytes], who: Identity) -> list[str]:
    """What the keeper says of each."""
    keepers = Keepers(swarm_of(made, who), made.signed)
    return [(await keepers.submit(keepers.all[0], [raw]))[0].code for raw in raws]


async def test_fees_that_are_forged_short_misled_replayed_or_paid_twice(tmp_path: Path) -> None:
    async with house(tmp_path, fee=3 * CREDIT, daily=9) as made:
        forged, short, misled, other, twice = [await made.submit(seed) for seed in range(1, 6)]
        serial = iter(range(100))

        def common(micro: int) -> dict[str, Any]:
            now = int(made.clock())
            return {"grid": made.signed.grid, "micro": micro, "serial": f"{next(serial):032x}", "issued": now}

        def transfer(payee: Identity, memo: str, micro: int = 3 * CREDIT) -> Transfer:
            return Transfer(payer=hex_of(made.author), payee=hex_of(payee), memo=memo, **common(micro))

        rich = Grant(account=hex_of(made.author), reason="a test", **common(100 * CREDIT))
        assert await booked(made, [sign_entry(rich, made.maintainer)], made.author) == ["accepted"]
        stolen = sign_entry(transfer(made.identity, memo_for(forged)), THIEF)  # of another's money
        assert (await booked(made, [stolen], THIEF))[0] not in ("accepted", "known")
        pays = transfer(made.identity, memo_for(twice))
        raws = [
            sign_entry(one, made.author)
            for one in (
                transfer(made.identity, memo_for(short), 3 * CREDIT - 1),
                transfer(THIEF, memo_for(misled)),
                transfer(made.identity, memo_for(other) + "0"),
                transfer(made.identity, memo_for(other).upper()),
                pays,
                transfer(made.identity, memo_for(twice)),
            )
        ]
        assert set(await booked(made, raws, made.author)) == {"accepted"}
        assert await booked(made, [sign_entry(pays, made.author)], THIEF) == ["known"]  # replayed
        await made.until(twice, "locked")
        states = {one: (await made.view(one)).state for one in (forged, short, misled, other)}
        assert set(states.values()) == {"unpaid"}
        assert [facts["submission"] for kind, facts in made.told if kind == "paid"] == [twice]


async def test_an_upload_to_anothers_submission(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        said = made.submission(1)
        id_ = (await made.enter(said)).id
        spoilt = model(tmp_path / "spoilt", 1, one_value_changed(1))
        bundle = Bundle(tmp_path / "spoilt", spoilt)
        with pytest.raises(NotAccepted, match="has no submission"):
            await send(made, bundle, id_, THIEF)
        with pytest.raises(BadPayment):  # the author's word, given to another connection
            await send(made, bundle, id_, THIEF, made.delegation(made.author))
        with pytest.raises(GridError):  # by its own author, but another model than it signed for
            await send(made, bundle, id_, made.author)
        assert (await made.view(id_)).state in ("uploading", "refused")
        withdrawal = Withdrawal(grid=said.grid, account=hex_of(THIEF), submission=id_, issued=said.issued)
        with pytest.raises(NotAccepted, match="has no submission"):
            message = messages.Withdraw(sign(withdrawal, THIEF))
            await made.ask(THIEF, messages.WITHDRAW_CALL, message, messages.SubmissionView)


CALLS = sorted(value for name, value in vars(messages).items() if name.endswith("_CALL"))
JUNK = (
    b"",
    b"\xc1",
    random.Random(5).randbytes(2000),
    b"\xdf\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x81\xa1x\xcb\x7f\xf8" + bytes(6),
)


async def test_garbage_in_every_call_gets_a_refusal(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        swarm = swarm_of(made, THIEF)
        assert len(CALLS) == 14
        for call in CALLS:
            for junk in JUNK:
                with pytest.raises(Refusal):
                    await swarm.call(made.peer, call, junk, timeout_s=10)
        assert (await made.ask(THIEF, messages.RANK_CALL, messages.AskRank(), messages.Rank)).total == 0


async def test_a_submission_withdrawn_in_the_midst_of_its_upload_stays_withdrawn(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        said = made.submission(1)
        id_ = (await made.enter(said)).id
        bundle, loop = Bundle(tmp_path / "1", model(tmp_path / "1", 1)), asyncio.get_running_loop()
        begun, withdrawn = asyncio.Event(), threading.Event()
        read = bundle.read

        def slow(digest: str, offset: int) -> bytes:
            if digest != bundle.root:
                loop.call_soon_threadsafe(begun.set)
                assert withdrawn.wait(10)
            return read(digest, offset)

        bundle.read = slow  # type: ignore[method-assign]
        sending = asyncio.create_task(send(made, bundle, id_, made.author))
        await begun.wait()
        withdrawal = Withdrawal(grid=said.grid, account=said.account, submission=id_, issued=said.issued)
        message = messages.Withdraw(sign(withdrawal, made.author))
        view = await made.ask(made.author, messages.WITHDRAW_CALL, message, messages.SubmissionView)
        withdrawn.set()
        await asyncio.gather(sending, return_exceptions=True)
        assert view.state == (await made.view(id_)).state == "withdrawn"
        assert made.opened is not None
        vault = made.opened.desk.vault
        await asyncio.to_thread(vault.sweep, set())
        assert await asyncio.to_thread(vault.roots) == []
        assert vault.room.roots == frozenset() or not vault.room.roots


@pytest.mark.parametrize("wrong", ["code", "nested code", "pickle", "script", "lying size"])
async def test_models_that_are_refused_before_a_library_reads_them(wrong: str, tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        manifest = model(tmp_path / "m", 1)
        code = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}
        config = {"code": code, "nested code": {"text_config": code}}.get(wrong, {})
        manifest = msgspec.structs.replace(manifest, config=manifest.config | {"model_type": "evil"} | config)
        digest = hashlib.sha256((tmp_path / "m/tokenizer.json").read_bytes()).hexdigest()
        files = {"pickle": "pytorch_model.bin", "script": "../evil.py"}
        if wrong in files:
            manifest = msgspec.structs.replace(manifest, tokenizer=manifest.tokenizer | {files[wrong]: digest})
        if wrong == "lying size":
            entry = msgspec.structs.replace(manifest.tensors["embed"], shape=[10**9])
            manifest = msgspec.structs.replace(manifest, tensors=manifest.tensors | {"embed": entry})
        view = await made.enter(claim(made, manifest, THIEF, "evil"), THIEF)
        bundle = await asyncio.to_thread(Bundle, tmp_path / "m", model(tmp_path / "m", 1))
        bundle = with_manifest(bundle, manifest)
        with pytest.raises(Malformed, match=r"asks for code|no tokenizer file|cannot have|does not parse|is none"):
            await send(made, bundle, view.id, THIEF)
        told = await made.view(view.id)
        assert told.state == "refused" and "Traceback" not in told.why
        assert made.opened is not None and await asyncio.to_thread(made.opened.desk.vault.roots) == []


def with_manifest(bundle: Bundle, manifest: Any) -> Bundle:
    """The same files under a manifest that no honest program would write."""
    from gridllm.models.manifest import manifest_bytes

    raw, honest = manifest_bytes(manifest), bundle.read
    bundle.root, bundle._manifest = hashlib.sha256(raw).hexdigest(), raw
    bundle.read = (  # type: ignore[method-assign]
        lambda digest, offset: raw[offset:] if digest == bundle.root else honest(digest, offset)
    )
    return bundle


NAMES = ("[bold]x[/]", "\x1b[31mred", "../../etc", "a\nb", "", " x", "x" * 65, "\u202emoc", "mоdel")  # a Cyrillic o


async def test_names_with_markup_control_characters_or_lookalikes_are_none(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        said = made.submission(1)
        for name in NAMES:
            forged = Submission.model_construct(**{**said.model_dump(), "name": name})
            assert "cannot be used" in await refused(made, forged, made.author), name
