"""Settings, read once at start: the file in the XDG config folder, then GRIDLLM_* variables, then flags."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gridllm.errors import UsageError

ENV_PREFIX: Final = "GRIDLLM_"
APP: Final = "gridllm"


def _comma_separated(value: object) -> object:
    """``a,b`` from a variable → a tuple; lists come from the file and from flags."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Multiaddrs = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """What a command runs with. Frozen: nothing changes its mind after start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path  # key, pinned charters, known peers: what must be kept
    state_dir: Path  # logs and locks: what may be lost
    cache_dir: Path  # manifests and digests: what can be made again
    identity: Path | None = None  # key file, when it is not the one in data_dir
    threads: Annotated[int | None, Field(ge=1, le=1024)] = None  # torch threads; None: torch decides
    device: str | None = None  # torch device; None: the best one there is
    dtype: str | None = None  # of weights and hidden states; None: the charter's
    host_maddrs: Multiaddrs = ("/ip4/0.0.0.0/tcp/0",)  # where to listen
    announce_maddrs: Multiaddrs = ()  # what to tell others, when it differs (behind a forwarded port)
    relay: bool = True  # use other peers as relays when not reachable, and be one when reachable
    reports: bool = True  # as a client, tell the grid's authorities how fast its nodes served (no text)
    debug: bool = False  # tracebacks instead of sentences

    @property
    def identity_path(self) -> Path:
        """The key file: the one named, or ``identity.key`` in the data folder."""
        return self.identity or self.data_dir / "identity.key"


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_CONFIG_HOME/gridllm/config.toml``, or the platform's own place."""
    return _folder(environ, "XDG_CONFIG_HOME", platformdirs.user_config_path(APP)) / "config.toml"


def load_settings(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Settings from file, environment and flags, later ones winning; a flag that is None was not given.

    Raises:
        UsageError: the file does not parse, names an unknown setting, or a value from any source does not fit.
    """
    values: dict[str, Any] = {
        "data_dir": _folder(environ, "XDG_DATA_HOME", platformdirs.user_data_path(APP)),
        "state_dir": _folder(environ, "XDG_STATE_HOME", platformdirs.user_state_path(APP)),
        "cache_dir": _folder(environ, "XDG_CACHE_HOME", platformdirs.user_cache_path(APP)),
    }
    sources = dict.fromkeys(values, "the XDG folders")
    path = config_path(environ)
    from_env = {
        name: environ[ENV_PREFIX + name.upper()]
        for name in Settings.model_fields
        if environ.get(ENV_PREFIX + name.upper())
    }
    from_flags = {name: value for name, value in overrides.items() if value is not None}
    for source, layer in (
        (str(path), _read_file(path)),
        ("the environment", from_env),
        ("the command line", from_flags),
    ):
        values.update(layer)
        sources.update(dict.fromkeys(layer, source))
    try:
        return Settings(**values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        known = ", ".join(Settings.model_fields)
        hint = f"; known settings: {known}" if fault["type"] == "extra_forbidden" else ""
        raise UsageError(
            f"The setting {name!r} from {sources.get(name, path)} cannot be {fault['input']!r}: {fault['msg']}{hint}."
        ) from error


def _folder(environ: Mapping[str, str], variable: str, default: Path) -> Path:
    """The XDG folder of ``variable``; relative paths there are invalid and ignored, as the XDG specification asks."""
    value = environ.get(variable, "")
    return Path(value) / APP if value and Path(value).is_absolute() else default


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read ({error.strerror}).") from error
