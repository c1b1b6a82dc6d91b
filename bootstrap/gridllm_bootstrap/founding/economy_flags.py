"""Flags of ``gridllm bootstrap init`` about credit: as typed → the charter's economy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gridllm.errors import UsageError
from gridllm_bootstrap.founding.economy_amounts import parsed

if TYPE_CHECKING:
    from gridllm.charter.document import ModelEntry
    from gridllm.charter.economy import Economy

STARTER_TOKENS: Final = 10_000
TRUST_TOKENS: Final = 2_000


def _credit(value: str | None, told: str, *names: str) -> Any:
    return typer.Option(*names, metavar=value, rich_help_panel="Credit", help=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomyWishes:
    """As typed; None: not said."""

    ledger: Annotated[
        bool | None,
        _credit(
            None,
            "Keep a ledger of who gave and used how much. Default: yes, but for open grids.",
            "--ledger/--no-ledger",
        ),
    ] = None
    decode_price: Annotated[
        str | None, _credit("CREDITS", "Price of a token through a billion parameters. Default: 1.")
    ] = None
    prefill_price: Annotated[str | None, _credit("CREDITS", "The same, for a prompt's tokens. Default: 0.25.")] = None
    starter: Annotated[
        str | None,
        _credit(
            "CREDITS", "Given once to each machine admitted to serve. Default: about 10,000 tokens of the first model."
        ),
    ] = None
    newcomers: Annotated[
        str | None,
        _credit("nothing|allowance|lowest", "What an account that cannot pay may do. Default: lowest: be served last."),
    ] = None
    allowance: Annotated[str | None, _credit("CREDITS", "Credit a day, for --newcomers allowance; given by nodes.")] = (
        None
    )
    trust: Annotated[
        str | None,
        _credit(
            "CREDITS",
            "What a node serves an account in good standing on credit while its keeper is silent. Default: "
            "about 2,000 tokens of the first model.",
        ),
    ] = None
    classes: Annotated[
        list[str] | None,
        _credit(
            "CREDITS", "Accounts that gave so much more than they used are served first; may be repeated.", "--class"
        ),
    ] = None
    tiers: Annotated[
        list[str] | None, _credit("MODEL=CREDITS", "Contribution needed to use a model; may be repeated.", "--tier")
    ] = None
    submit: Annotated[
        str | None, _credit("CREDITS", "Contribution needed to submit to the leaderboard. Default: 0.")
    ] = None
    window: Annotated[int | None, _credit("TOKENS", "Tokens served beyond what is paid. Default: 64.")] = None
    pass_life: Annotated[str | None, _credit("DURATION", "How long an access pass is valid. Default: 10min.")] = None
    escrow_life: Annotated[str | None, _credit("DURATION", "How long an escrow is valid. Default: 30min.")] = None
    keepers: Annotated[
        list[str] | None, _credit(None, "Maintainer that keeps the ledger; may be repeated. Default: all.", "--keeper")
    ] = None

    def check(self, models: Sequence[str]) -> None:
        """Refuse what cannot be whatever the models hold, before they are read (seconds for each GB).

        Args:
            models: their names.

        Raises:
            UsageError: an amount, name or combination that cannot be.
        """
        if self.ledger is False and self._said:
            raise UsageError("Without a ledger, credit means nothing: leave out --no-ledger or the other flags.")
        parsed(self, models)

    def settled(self, models: Sequence[ModelEntry], *, usual: bool = False) -> Economy:
        """As it stands in the charter; ``usual``: whether there is a ledger where nothing is said.

        Raises:
            UsageError: an amount, model or combination that cannot be.
        """
        from pydantic import ValidationError

        from gridllm.charter.economy import Economy

        names = [entry.name for entry in models]
        self.check(names)
        wanted = usual if self.ledger is None else self.ledger
        if not wanted and not self._said:
            return Economy()
        chosen = parsed(self, names)
        roots = {entry.name: entry.root for entry in models}
        chosen["tiers"] = tuple(tier | {"model": roots[tier["model"]]} for tier in chosen["tiers"])
        decode = chosen.get("prices", {}).get("decode", Economy().prices.decode)
        token = models[0].parameters * decode // 10**6
        sizes = {"starter": STARTER_TOKENS * token, "trust": TRUST_TOKENS * token}
        try:
            return Economy.model_validate({"required": True, **sizes, **chosen})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = " ".join(map(str, fault["loc"])) or "combination of flags"
            raise UsageError(f"The grid's {where} is not valid: {fault['msg']}.") from error

    @property
    def _said(self) -> bool:
        """Whether anything was typed but --ledger."""
        return any(getattr(self, one.name) not in (None, ()) for one in fields(self) if one.name != "ledger")
