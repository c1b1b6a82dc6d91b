"""Settings: file, then environment, then flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gridllm.errors import UsageError
from gridllm.settings import config_path, load_settings


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}


def write_config(environ: dict[str, str], text: str) -> Path:
    path = config_path(environ)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_defaults_follow_xdg(environ: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings(environ)
    assert settings.data_dir == tmp_path / "data" / "gridllm"
    assert settings.identity_path == tmp_path / "data" / "gridllm" / "identity.key"
    assert settings.state_dir == tmp_path / "state" / "gridllm"
    assert settings.cache_dir == tmp_path / "cache" / "gridllm"
    assert settings.threads is None


def test_relative_xdg_folders_are_ignored(environ: dict[str, str]) -> None:
    assert load_settings(environ | {"XDG_DATA_HOME": "relative"}).data_dir.is_absolute()


def test_later_sources_win(environ: dict[str, str]) -> None:
    write_config(environ, 'threads = 1\ndevice = "cpu"\ndtype = "float32"\nannounce_maddrs = ["/ip4/1.2.3.4/tcp/5"]\n')
    environ |= {"GRIDLLM_THREADS": "2", "GRIDLLM_DEVICE": "cuda", "GRIDLLM_DEBUG": "1", "GRIDLLM_RELAY": "0"}
    settings = load_settings(environ, threads=3, device=None)
    assert (settings.threads, settings.device, settings.dtype) == (3, "cuda", "float32")
    assert settings.announce_maddrs == ("/ip4/1.2.3.4/tcp/5",)
    assert settings.debug
    assert not settings.relay


def test_addresses_in_a_variable(environ: dict[str, str]) -> None:
    environ["GRIDLLM_HOST_MADDRS"] = "/ip4/0.0.0.0/tcp/1, /ip6/::/tcp/1"
    assert load_settings(environ).host_maddrs == ("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1")


def test_frozen(environ: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        load_settings(environ).threads = 4


def test_unknown_setting_names_the_file(environ: dict[str, str]) -> None:
    path = write_config(environ, "treads = 1\n")
    with pytest.raises(UsageError, match=f"'treads' from {path}.*known settings.*threads"):
        load_settings(environ)


def test_bad_value_names_its_source(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="'threads' from the environment cannot be 'many'"):
        load_settings(environ | {"GRIDLLM_THREADS": "many"})
    with pytest.raises(UsageError, match="'threads' from the command line cannot be 0"):
        load_settings(environ, threads=0)


def test_broken_toml(environ: dict[str, str]) -> None:
    write_config(environ, "threads = \n")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_settings(environ)


def test_unreadable_file(environ: dict[str, str]) -> None:
    config_path(environ).mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(environ)
