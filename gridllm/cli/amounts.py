"""Commands that take an amount of credit."""

from __future__ import annotations

import re
from typing import Any

import typer.core


class AmountCommand(typer.core.TyperCommand):
    """Takes ``-5`` for an amount, so that people are told what is wrong with it, and not that -5 is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, but for numbers below nought."""
        ctx.ignore_unknown_options = any(re.fullmatch(r"-[0-9.]+", word) for word in args)
        return super().parse_args(ctx, args)
