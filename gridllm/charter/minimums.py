"""What a machine must prove before it may take part, role by role. Part of the charter; amended by signed notices."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from gridllm.identity.fields import Strict

Role = Literal["serve", "relay", "seed"]
ROLES: Final[tuple[Role, ...]] = ("serve", "relay", "seed")
DAY_S: Final = 24 * 3600


class Minimums(Strict):
    """The least that one role asks for; 0 (or "" or False) asks for nothing."""

    decode_blocks_per_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0  # one token of one session through one block
    batch_blocks_per_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0  # the same, eight sessions in a pass
    prefill_blocks_per_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0  # tokens of a prompt through one block
    memory_bytes: Annotated[int, Field(ge=0, le=2**50)] = 0  # held all at once, for weights and caches
    disk_bytes: Annotated[int, Field(ge=0, le=2**60)] = 0  # free; reported by the candidate, not proven
    upload_mbit_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0  # as its receiver measured it
    download_mbit_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0  # from the request to the proof of receipt
    reachable: bool = False  # others can dial it without a relay
    version: Annotated[str, Field(pattern=r"^(\d{1,5}(\.\d{1,5}){0,3})?$")] = ""  # oldest gridllm version


class Admission(Strict):
    """Who is admitted to a grid, and for how long."""

    required: bool = False  # False: an open grid, where nobody needs a certificate
    certificate_s: Annotated[int, Field(ge=30, le=31 * DAY_S)] = DAY_S  # a certificate's life
    serve: Minimums = Minimums()
    relay: Minimums = Minimums()
    seed: Minimums = Minimums()  # hands out weights only

    def of(self, role: Role) -> Minimums:
        """The minimums of one role."""
        return {"serve": self.serve, "relay": self.relay, "seed": self.seed}[role]
