"""``gridllm ledger``: sound books pass, wrong ones end with 1 and a name; an exported file is as good as the grid."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from gridllm.charter.pin import Pins
from gridllm.cli.ledger import app, chosen, export, policy, verify
from gridllm.cli.main import named_command
from gridllm.errors import CharterError, LedgerError, UsageError
from gridllm.identity.keys import Identity
from gridllm.ledger.audit import Wrong, archive, examine
from gridllm.ledger.log.evidence import verify_equivocation
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from gridllm.quantities import count_things
from gridllm.settings import load_settings
from tests.ledgers import homed
from tests.unit.ledger_desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(examine, "PAUSE_S", 0.0)
    monkeypatch.setattr(archive, "SEGMENT", 64)
    monkeypatch.chdir(tmp_path)
    desk = make_desk(tmp_path, monkeypatch)
    for keeper, count in ((desk.a, 150), (desk.b, 65)):
        payer = homed(desk.signed, keeper.key)
        keeper.take([desk.scribe.grant(payer, 10**9 + number) for number in range(count)])
        keeper.heads_beside.append(keeper.own.head)
        keeper.take([desk.scribe.transfer(payer, desk.me, 5)])
    desk.exchange()
    return desk


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    return lambda: json.loads(capsys.readouterr().out)


def test_sound_books(desk: Desk, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> None:
    verify(as_json=True)
    told = said()
    assert told["sound"] is True
    assert told["fault"] is None
    assert told["statements"] == 217
    assert {log["keeper"]: log["entries"] for log in told["logs"]} == {desk.a.key: 151, desk.b.key: 66}
    assert told["agreeing"] == [desk.a.key, desk.b.key]
    assert told["minted"] == sum(10**9 + number for number in [*range(150), *range(65)])
    verify()
    text = capsys.readouterr().out
    assert "The books are sound." in text
    assert "2 of 2 keepers say the same of every account" in text
    assert "1 of 2" in text  # cosigned by


def test_a_wrong_entry_ends_with_1_and_its_name(
    desk: Desk, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = desk.b.own.raws[33]
    desk.b.own.raws[33] = raw[:300] + bytes([raw[300] ^ 1]) + raw[301:]
    with pytest.raises(Wrong, match=f"Entry 33 in the log of {desk.b.key[:16]}…"):
        verify()
    assert "The books are sound." not in capsys.readouterr().out
    with pytest.raises(typer.Exit) as ended:
        verify(as_json=True)
    assert ended.value.exit_code == 1
    told = said()
    assert told["sound"] is False
    assert (told["fault"]["entry"], told["fault"]["log"]) == (33, desk.b.key)


def test_two_histories_over_time_leave_evidence(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    verify()
    desk.a.forget(1)
    desk.a.take([desk.scribe.grant(Identity.ephemeral(), 9)])
    desk.b.copies[desk.a.key] = desk.a.own
    with pytest.raises(Wrong, match="shows two histories"):
        verify()
    path = Path(capsys.readouterr().err.split("is in ")[1].strip().replace("\n", ""))
    assert verify_equivocation(path.read_bytes(), desk.signed).keeper == desk.a.key
    with pytest.raises(Wrong, match="shows two histories"):  # what was found wrong is not what later ones are held to
        verify()


def test_one_keeper_may_be_chosen(desk: Desk, said: Callable[[], Any]) -> None:
    verify(keeper=[desk.b.key[:8]], as_json=True)
    told = said()
    assert {log["read_from"] for log in told["logs"]} == {desk.b.key}
    assert told["agreeing"] == [desk.b.key]
    assert chosen(desk.signed, None) == [desk.a.key, desk.b.key]
    for name in ("x", ""):
        with pytest.raises(UsageError, match="of the grid's keepers"):
            chosen(desk.signed, [name])


def test_a_silent_keeper_is_told_of(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.silent = {desk.a.key}
    verify()
    text = capsys.readouterr().out
    assert f"Its log was read from the copy of {desk.b.key[:16]}…." in text
    assert f"{desk.a.key[:16]}… does not answer" in text
    assert "The books are sound." in text


def test_an_export_is_checked_without_the_grid(
    desk: Desk, tmp_path: Path, said: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(as_json=True)
    told = said()
    assert told == {"file": "home-ledger.zip", "entries": {desk.a.key: 151, desk.b.key: 66}, "silent": {}}
    with pytest.raises(UsageError, match="exists already"):
        export()
    desk.silent = {desk.a.key, desk.b.key}
    verify(file=Path("home-ledger.zip"), as_json=True)
    told = said()
    assert (told["sound"], told["statements"], told["agreeing"]) == (True, 217, [])
    with pytest.raises(UsageError, match="leave out --keeper"):
        verify(file=Path("home-ledger.zip"), keeper=["a"])


def test_a_stranger_may_check_a_file(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(out=Path("books.zip"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "stranger"))
    verify(file=Path("books.zip"))
    out, err = capsys.readouterr()
    assert desk.signed.grid in err.replace("\n", "")
    assert "The books are sound." in out


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as read:
        return {name: read.read(name) for name in read.namelist()}


def rewritten(old: Path, new: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    with zipfile.ZipFile(old) as read, zipfile.ZipFile(new, "w") as made:
        for name in read.namelist():
            if (kept := change(name, read.read(name))) is not None:
                made.writestr(*kept)
    return new


def test_altered_files_are_found_out(desk: Desk) -> None:
    sound, other = Path("sound.zip"), Path("other.zip")
    export(out=sound)
    second = f"logs/{desk.a.key}/{64:012}.entries"
    raw = desk.a.own.raws[70]
    cases: list[tuple[Callable[[str, bytes], tuple[str, bytes] | None], type[Exception], str]] = [
        (lambda n, b: (n, b.replace(raw, raw.replace(b"a", b"b", 1))), Wrong, "Entry 70 in the log"),
        (lambda n, b: (n, b[:-1] if n == second else b), LedgerError, "cut off"),
        (lambda n, b: None if n == second else (n, b), LedgerError, "lacks logs/"),
        (lambda n, b: None if n.startswith("manifests") else (n, b), LedgerError, "lacks manifests/"),
        (lambda n, b: None if n == "charter.json" else (n, b), LedgerError, "lacks charter.json"),
        (
            lambda n, b: (n, b.replace(b'"sig":"', b'"sig":"A') if n == "charter.json" else b),
            CharterError,
            "not a charter|forged",
        ),
        (lambda n, b: (n + ".txt" if n == second else n, b), LedgerError, "has no use for"),
        (lambda n, b: ("../" + n if n == second else n, b), LedgerError, "has no use for"),
        (lambda n, b: (n, bytes(9 * 2**20) if n == second else b), LedgerError, "has no use for"),
        (lambda n, b: None if n.startswith("heads") else (n, b), LedgerError, "when this file was made"),
    ]
    for change, error, says in cases:
        with pytest.raises(error, match=says):
            verify(file=rewritten(sound, other, change))
    whole = sound.read_bytes()
    for at in range(100, len(whole), len(whole) // 40):
        other.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            verify(file=other)
        except (LedgerError, CharterError):
            continue
        assert contents(other) == contents(sound)  # it was a date, or the like
    other.write_bytes(b"no zip")
    with pytest.raises(LedgerError, match="is no exported ledger"):
        verify(file=other)
    with pytest.raises(LedgerError, match="There is no file nowhere.zip"):
        verify(file=Path("nowhere.zip"))


def test_an_export_that_fails_leaves_no_file(desk: Desk) -> None:
    raw = desk.b.own.raws[33]
    desk.b.own.raws[33] = raw.replace(b"a", b"b", 1)
    with pytest.raises(Wrong, match="gridllm ledger verify tells which"):
        export(out=Path("books.zip"))
    assert list(Path().glob("*books*")) == []


def test_a_keepers_database_is_checked_where_it_lies(
    desk: Desk, tmp_path: Path, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "books.sqlite"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    store = LedgerStore(engine, starter=desk.signed.charter.economy.starter)
    with store.write(desk.a.key, 1000.0) as batch:
        for raw in desk.a.own.raws[:50]:
            batch.append(desk.rules.read(raw, desk.a.key))
    engine.dispose()
    verify(database=str(file))
    assert "50 entries in 1 log," in capsys.readouterr().out
    verify(database=f"sqlite:///{file}", as_json=True)
    assert said()["entries"] == {desk.a.key: 50}
    with closing(sqlite3.connect(file)) as raw_file, raw_file:
        raw_file.execute("UPDATE accounts SET granted = granted + 1 WHERE number = 1")
    with pytest.raises(LedgerError, match="accounts"):
        verify(database=str(file))
    with pytest.raises(typer.Exit):
        verify(database=str(file), as_json=True)
    assert said()["sound"] is False
    with pytest.raises(UsageError, match="There is no ledger's database"):
        verify(database="nowhere.sqlite")
    with pytest.raises(UsageError, match="leave out"):
        verify(database=str(file), keeper=["a"])
    desk.pins.notices_path(desk.signed).parent.rename(tmp_path / "away")  # a maintainer who never joined
    founded = Pins(load_settings().data_dir / "bootstrap")
    founded.pin(desk.signed)
    with pytest.raises(LedgerError, match="manifest of 'demo' is not here"):
        verify(database=str(file))


def test_policy_asks_nobody(desk: Desk, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> None:
    desk.silent = {desk.a.key, desk.b.key}
    policy()
    text = capsys.readouterr().out
    assert "a token through a billion parameters costs 1 credit," in text
    assert desk.a.key in text
    policy(as_json=True)
    told = said()
    assert told["keepers"] == [desk.a.key, desk.b.key]
    assert told["prices"] == {"decode": 1000, "prefill": 250}


def test_grids_without_credit_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_desk(tmp_path, monkeypatch, required=False)
    policy()
    for command in (verify, export):
        with pytest.raises(LedgerError, match="keeps no ledger"):
            command()


def test_the_group_has_its_commands() -> None:
    command = named_command("ledger", app)
    assert isinstance(command, typer.core.TyperGroup)
    assert set(command.commands) == {"verify", "export", "policy"}


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    assert [count_things(number, "log") for number in (0, 1, 1204)] == ["0 logs", "1 log", "1,204 logs"]
    assert [count_things(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
