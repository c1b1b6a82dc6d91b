"""From measurements to a certificate: what an authority signs, what it refuses, and the rule of renewal."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.admission.certificate import (
    MAX_CERTIFICATE_BYTES,
    MEASUREMENT_LIFE_S,
    SKEW_S,
    Measurement,
    certificate_from,
    check_certificate,
    join_certificate,
    sign_certificate,
    sign_measurement,
    verify_measurement,
    verify_signatures,
)
from gridllm.admission.figures import RATES, Figures
from gridllm.admission.messages import Certify, encode
from gridllm.admission.renewing import BUSY_SHARE, CARRIED_SHARE, renewed
from gridllm.charter.board import NoticeBoard
from gridllm.errors import (
    AdmissionError,
    CertificateError,
    Disagreement,
    Malformed,
    NotAdmitted,
    Refusal,
    Revoked,
    TooSoon,
)
from gridllm.identity.keys import Identity
from gridllm_bootstrap.measuring.certifying import CALLS, Certifier
from tests.charters import ENTRY, MAINTAINERS
from tests.unit.authority_hall import ADMISSION, GOOD, revoke, signed_charter

SIGNED = signed_charter()
PEER = Identity.ephemeral().peer
NOW = time.time()  # every clock below stands still there: the test may begin minutes after it


def measurement(by: int, figures: Figures = GOOD, **changes: object) -> Measurement:
    fields = {
        "grid": SIGNED.grid,
        "peer": PEER,
        "model": ENTRY.root,
        "dtype": "float32",
        "figures": figures,
        "taken": int(NOW),
        "authority": MAINTAINERS[by].public_key.hex(),
    }
    return Measurement.model_validate(fields | changes)


def signed(by: int, figures: Figures = GOOD, **changes: object) -> bytes:
    return sign_measurement(measurement(by, figures, **changes), MAINTAINERS[by])


class TestCertifying:
    """What one authority answers to ``CERTIFY_CALL``."""

    def certifier(self, *notices: bytes) -> Certifier:
        board = NoticeBoard(SIGNED)
        for raw in notices:
            board.add(raw)
        return Certifier(SIGNED, MAINTAINERS[0], board, clock=lambda: NOW)

    async def test_two_sign_the_same_bytes(self) -> None:
        request = encode(Certify(measurements=[signed(0), signed(1)]))
        others = Certifier(SIGNED, MAINTAINERS[1], NoticeBoard(SIGNED), clock=lambda: NOW + 30)
        raw = join_certificate(
            [await self.certifier().answer(PEER, request), await others.answer(PEER, request)], SIGNED
        )
        assert len(raw) <= MAX_CERTIFICATE_BYTES
        certificate = check_certificate(verify_signatures(raw, SIGNED), PEER, now_s=NOW)
        assert certificate.figures == GOOD

    @pytest.mark.parametrize(
        ("measurements", "refusal", "says"),
        [
            ([signed(0)], NotAdmitted, "2 different maintainers"),
            ([signed(0), signed(0, taken=int(NOW) - 1)], NotAdmitted, "2 different maintainers"),
            ([signed(1), signed(2)], Disagreement, "measured itself"),
            ([signed(0), signed(1, peer=Identity.ephemeral().peer)], NotAdmitted, "cannot be certified with it"),
            ([signed(0), signed(1, model="cd" * 32)], NotAdmitted, "not of one node, model and dtype"),
            ([signed(0), signed(1, dtype="bfloat16")], NotAdmitted, "not of one node, model and dtype"),
            ([signed(0), signed(1, grid="0" * 64)], NotAdmitted, "another grid"),
            ([signed(0), signed(1, taken=int(NOW) - MEASUREMENT_LIFE_S - SKEW_S - 9)], NotAdmitted, "30 minutes"),
            ([signed(0), signed(1, taken=int(NOW) + SKEW_S + 9)], NotAdmitted, "30 minutes"),
            ([signed(0), sign_measurement(measurement(1), MAINTAINERS[2])], NotAdmitted, "maintainers"),
            ([signed(0), sign_measurement(measurement(1), Identity.ephemeral())], NotAdmitted, "maintainers"),
            ([signed(0), b"rubbish"], NotAdmitted, "maintainers"),
            ([signed(0, Figures(version="1")), signed(1, Figures(version="1"))], NotAdmitted, "no role"),
            ([signed(0), signed(1, GOOD.model_copy(update={"memory_bytes": 9000}))], Disagreement, "memory_bytes"),
        ],
    )
    async def test_refused(self, measurements: list[bytes], refusal: type[Refusal], says: str) -> None:
        with pytest.raises(refusal, match=says):
            await self.certifier().answer(PEER, encode(Certify(measurements=measurements)))

    async def test_only_the_one_that_was_measured_gets_it(self) -> None:
        with pytest.raises(NotAdmitted):
            await self.certifier().answer(
                Identity.ephemeral().peer, encode(Certify(measurements=[signed(0), signed(1)]))
            )

    async def test_a_revoked_one_does_not(self) -> None:
        request = encode(Certify(measurements=[signed(0, taken=int(NOW) - 60), signed(1, taken=int(NOW) - 60)]))
        with pytest.raises(Revoked, match="a test"):
            await self.certifier(revoke(SIGNED, PEER, now_s=NOW)).answer(PEER, request)
        with pytest.raises(Revoked, match="older than its revocation"):
            await self.certifier(revoke(SIGNED, PEER, ago_s=30, for_s=0, now_s=NOW)).answer(PEER, request)
        assert await self.certifier(revoke(SIGNED, PEER, ago_s=90, for_s=0, now_s=NOW)).answer(PEER, request)

    @given(st.binary(max_size=200))
    async def test_garbage(self, payload: bytes) -> None:
        with pytest.raises(Malformed):
            await self.certifier().answer(PEER, payload)

    async def test_it_is_not_asked_without_end(self) -> None:
        certifier, request = self.certifier(), encode(Certify(measurements=[signed(0), signed(1)]))
        for _ in range(CALLS):
            await certifier.answer(PEER, request)
        with pytest.raises(TooSoon):
            await certifier.answer(PEER, request)


class TestOffline:
    def test_signatures_of_different_certificates_do_not_join(self) -> None:
        both = [measurement(0), measurement(1)]
        one = certificate_from(both, SIGNED, ADMISSION, NOW)
        other = certificate_from(both, SIGNED, ADMISSION.model_copy(update={"certificate_s": 60}), NOW)
        with pytest.raises(AdmissionError, match="same certificate"):
            join_certificate([sign_certificate(one, MAINTAINERS[0]), sign_certificate(other, MAINTAINERS[1])], SIGNED)

    def test_one_signature_twice_is_one(self) -> None:
        one = certificate_from([measurement(0), measurement(1)], SIGNED, ADMISSION, NOW)
        with pytest.raises(AdmissionError, match="lacks valid signatures"):
            join_certificate([sign_certificate(one, MAINTAINERS[0])] * 2, SIGNED)

    def test_a_measurement_is_its_authoritys_own(self) -> None:
        assert verify_measurement(signed(0), SIGNED) == measurement(0)
        with pytest.raises(AdmissionError):
            verify_measurement(signed(0).replace(b"e", b"f", 1), SIGNED)

    @pytest.mark.parametrize(
        ("ask", "rule"),
        [
            ({"now_s": NOW - SKEW_S - 5}, "early"),
            ({"now_s": NOW + ADMISSION.certificate_s + SKEW_S + 5}, "expired"),
            ({"now_s": NOW, "model": "cd" * 32}, "model"),
            ({"now_s": NOW, "dtype": "float16"}, "dtype"),
            ({"now_s": NOW, "role": "relay"}, "role"),
        ],
    )
    def test_each_rule_has_a_name(self, ask: dict[str, object], rule: str) -> None:
        certificate = certificate_from([measurement(0), measurement(1)], SIGNED, ADMISSION, NOW)
        with pytest.raises(CertificateError) as caught:
            check_certificate(certificate, PEER, **ask)  # type: ignore[arg-type]
        assert caught.value.rule == rule
        with pytest.raises(CertificateError) as caught:
            check_certificate(certificate, Identity.ephemeral().peer, now_s=NOW)
        assert caught.value.rule == "holder"


RATE = st.floats(min_value=0, max_value=1e6)


class TestRenewing:
    @given(RATE, RATE)
    def test_each_rate_by_itself(self, old: float, measured: float) -> None:
        for name in RATES:
            now = getattr(renewed(Figures(**{name: old}), Figures(**{name: measured})), name)
            if measured >= old:
                assert now == measured
            elif measured >= BUSY_SHARE * old:
                assert now == max(measured, CARRIED_SHARE * old)
            else:
                assert now == measured

    def test_memory_is_carried_over_and_the_rest_is_news(self) -> None:
        old = Figures(memory_bytes=500, rtt_ms=5.0, reachable=True, version="1", disk_bytes=9)
        measured = Figures(memory_bytes=0, rtt_ms=7.0, reachable=False, version="2", disk_bytes=8)
        assert renewed(old, measured) == measured.model_copy(update={"memory_bytes": 500})

    def test_a_suspect_node_is_taken_by_what_it_shows(self) -> None:
        old, measured = Figures(decode_blocks_per_s=100.0), Figures(decode_blocks_per_s=60.0)
        assert renewed(old, measured).decode_blocks_per_s == 90.0
        assert renewed(old, measured, strict=True).decode_blocks_per_s == 60.0

    def test_no_figure_outlasts_its_machine(self) -> None:
        figures, measured = Figures(decode_blocks_per_s=100.0), Figures(decode_blocks_per_s=50.0)
        seen = []
        for _ in range(7):
            figures = renewed(figures, measured)
            seen.append(figures.decode_blocks_per_s)
        assert seen == sorted(seen, reverse=True)
        assert seen[-1] == 50.0
