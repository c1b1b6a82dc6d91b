"""A family of flags as one parameter of a command: a dataclass, each of whose fields is typed as typer's option."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_families(command: Callable[..., None]) -> Callable[..., None]:
    """Have typer see a dataclass among the parameters as a flag for each field; ``command`` is given the dataclass.

    All parameters are keyword-only then, so that a family may stand among flags that have defaults.
    """
    families: dict[str, type[Any]] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not is_dataclass(kind) or not isinstance(kind, type):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        families[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        parameters += [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(kind)
        ]

    @functools.wraps(command)
    def told(**said: Any) -> None:
        for name, kind in families.items():
            said[name] = kind(**{one.name: said.pop(one.name) for one in fields(kind)})
        command(**said)

    told.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return told
