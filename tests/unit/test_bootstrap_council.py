"""Several maintainers: drafts, signatures, what each of them installs; and notices that need more than one of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import Charter, SignedCharter
from gridllm.errors import AddressError, CharterError, UsageError
from gridllm.identity.keys import Identity, load
from gridllm.ids import PeerId
from gridllm_bootstrap.founding.found import Council, Founding, found_grid, prepare_keys
from gridllm_bootstrap.founding.offer import ModelWish
from gridllm_bootstrap.home import Home
from gridllm_bootstrap.listen import Listening
from gridllm_bootstrap.notices.cosign import Case, keep, look, sign
from gridllm_bootstrap.notices.minimums import Change, amendment
from gridllm_bootstrap.notices.revoke import revocation
from gridllm_bootstrap.paper import paper_of, read_paper, write_paper

PEER = Identity.ephemeral().peer


def listening(port: int) -> Listening:
    return Listening(host_maddrs=[f"/ip4/127.0.0.1/tcp/{port}"], announce_maddrs=[])


class Table:
    """Three maintainers around a charter that two must sign."""

    def __init__(self, folder: Path) -> None:
        self.homes = [Home(folder / name) for name in "abc"]
        self.addresses: list[str] = []
        keys = []
        for number, home in enumerate(self.homes):
            maintainer, addresses = prepare_keys(home, "club", listening(40001 + number))
            keys.append(maintainer.public_key.hex())
            self.addresses += addresses
        self.keys = keys
        self.file = folder / "passed-round.json"

    def found(self, council: Council | None = None) -> Founding:
        council = council or Council(tuple(self.keys[1:]), 2, tuple(self.addresses[1:]))
        founding = found_grid(
            self.homes[0],
            "club",
            [ModelWish("demo", None, None)],
            listening=listening(40001),
            progress=lambda *_: None,
            council=council,
        )
        if founding.file is not None:
            shutil.copy(founding.file, self.file)
        return founding

    def sign(self, number: int) -> SignedCharter | None:
        home = self.homes[number]
        return keep(home, sign(home, look(home, self.file)), self.file)

    def founded(self) -> SignedCharter:
        self.found()
        self.sign(1)
        signed = self.sign(0)
        assert signed is not None
        return signed


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


class TestCharter:
    def test_two_of_three(self, table: Table) -> None:
        founding = table.found()
        assert founding.signed is None
        assert table.homes[0].drafts() == [founding.file]
        assert table.homes[0].pins.all() == []
        first = look(table.homes[1], table.file)
        assert (first.signers, first.missing) == ((table.keys[0],), 1)
        signed = table.sign(1)
        assert signed is not None
        assert signed.charter.first_peers == table.addresses
        assert (signed.charter.maintainers, signed.charter.threshold) == (table.keys, 2)
        for number in (0, 2):
            assert table.sign(number) is not None
        for home, key in zip(table.homes, table.keys, strict=True):
            assert home.pins.current().grid == signed.grid
            assert home.pins.manifest(signed.charter.models[0].model_root) is not None
            assert load(home.maintainer_key("club")).public_key.hex() == key
            assert load(home.peer_key("club")).peer in " ".join(table.addresses)
            assert home.drafts() == []

    def test_signing_twice_does_no_harm(self, table: Table) -> None:
        table.found()
        assert table.sign(0) is None
        assert look(table.homes[0], table.file).missing == 1
        assert table.sign(1) is not None
        assert table.sign(1) is not None

    def test_a_threshold_of_one_founds_at_once(self, table: Table) -> None:
        founding = table.found(Council((table.keys[1],), 1))
        assert founding.signed is not None
        assert founding.file is not None
        assert table.sign(1) is not None  # and the other installs it

    def test_the_threshold_is_a_majority_unless_chosen(self, table: Table) -> None:
        assert table.found(Council(tuple(table.keys))).paper.unsigned.charter.threshold == 2

    def test_strangers_do_not_sign(self, table: Table, tmp_path: Path) -> None:
        table.found()
        stranger = Home(tmp_path / "stranger")
        with pytest.raises(UsageError, match="no maintainer's key for 'club'"):
            sign(stranger, look(stranger, table.file))
        prepare_keys(stranger, "club", listening(40009))
        with pytest.raises(UsageError, match="is not among its maintainers"):
            sign(stranger, look(stranger, table.file))

    def test_a_strangers_signature_does_not_count(self, table: Table) -> None:
        paper = table.found().paper
        crowd = replace(paper).signed_by(Identity.ephemeral())
        write_paper(table.file, crowd)
        assert look(table.homes[0], table.file).missing == 1

    def test_an_altered_manifest_is_noticed(self, table: Table) -> None:
        table.found()
        stored = json.loads(table.file.read_bytes())
        (root,) = stored["manifests"]
        stored["manifests"][root] += " "
        table.file.write_text(json.dumps(stored))
        with pytest.raises(UsageError, match="was altered"):
            look(table.homes[1], table.file)

    def test_a_missing_manifest_installs_nothing(self, table: Table) -> None:
        table.found()
        stored = json.loads(table.file.read_bytes())
        table.file.write_text(json.dumps({**stored, "manifests": {}}))
        with pytest.raises(CharterError, match="manifest of 'demo' is missing"):
            table.sign(1)
        assert table.homes[1].pins.all() == []

    def test_a_second_charter_of_that_name(self, table: Table, tmp_path: Path) -> None:
        table.founded()
        other = Table(tmp_path / "other")
        other.found(Council((table.keys[0],), 2))
        with pytest.raises(CharterError, match="Another grid called 'club'"):
            keep(table.homes[0], sign(table.homes[0], look(table.homes[0], other.file)), other.file)

    def test_drafting_twice(self, table: Table) -> None:
        table.found()
        with pytest.raises(UsageError, match="waits for signatures"):
            table.found()

    @pytest.mark.parametrize(
        ("council", "error", "says"),
        [
            (Council(("xyz",)), UsageError, "not a maintainer's public key"),
            (Council((), 2), UsageError, "threshold of 2 does not fit 1"),
            (Council((), 0), UsageError, "threshold of 0"),
            (Council((), 1, ("/ip4/1.2.3.4/tcp/1",)), AddressError, "lacks the peer id"),
        ],
    )
    def test_refused_before_anything_is_written(
        self, tmp_path: Path, council: Council, error: type[Exception], says: str
    ) -> None:
        home = Home(tmp_path / "new")
        with pytest.raises(error, match=says):
            found_grid(
                home,
                "club",
                [ModelWish("demo", None, None)],
                listening=listening(40001),
                progress=lambda *_: None,
                council=council,
            )
        assert not home.root.exists()


class TestFiles:
    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", "null", '{"statement": 1, "manifests": {}}', '{"statement": "{}", "manifests": []}', "\udcff"],
    )
    def test_no_papers(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "file.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UsageError, match="holds no charter or notice"):
            read_paper(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read"):
            read_paper(tmp_path / "absent")
        with pytest.raises(UsageError, match="cannot be read"):
            read_paper(tmp_path)


class TestNotices:
    def test_a_revocation_by_two(self, table: Table) -> None:
        signed = table.founded()
        board = NoticeBoard(signed)
        raw = revocation(signed, board, PeerId(PEER), "cheats", 60, load(table.homes[0].maintainer_key("club")))
        write_paper(table.file, paper_of(raw))
        case = look(table.homes[1], table.file)
        assert (case.missing, case.signed) == (1, signed)
        both = sign(table.homes[1], case)
        assert both.missing == 0
        assert keep(table.homes[1], both, table.file) is None
        assert board.add(read_paper(table.file).raw)
        found = board.revocation(PEER)
        assert found is not None
        assert found.until == found.issued + 60

    def test_an_amendment_by_two(self, table: Table) -> None:
        signed = table.founded()
        board = NoticeBoard(signed)
        change = Change({("serve", "memory_bytes"): 7})
        raw = amendment(signed, board, change, load(table.homes[0].maintainer_key("club")))
        both = sign(table.homes[1], look_at(table.homes[1], raw, table.file))
        assert both.missing == 0
        board.add(both.paper.raw)
        assert board.admission.serve.memory_bytes == 7

    def test_of_another_grid(self, table: Table, tmp_path: Path) -> None:
        signed = table.founded()
        raw = revocation(signed, NoticeBoard(signed), PEER, "x", 0, load(table.homes[0].maintainer_key("club")))
        with pytest.raises(UsageError, match="which is not in"):
            look_at(Home(tmp_path / "elsewhere"), raw, table.file)


def look_at(home: Home, raw: bytes, file: Path) -> Case:
    write_paper(file, paper_of(raw))
    return look(home, file)


def test_a_charter_round_trips(table: Table) -> None:
    paper = table.found().paper
    again = read_paper(table.file)
    assert again == paper
    assert isinstance(again.content, Charter)
