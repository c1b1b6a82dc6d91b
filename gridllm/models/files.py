"""Where a model's files are: a local folder, the packaged demo model, or a Hub id. safetensors only, never pickle.

A Hub model is fetched in two steps: the small files first, then only the shards that hold the wanted blocks or ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gridllm.errors import ModelError
from gridllm.models.families import layout_of, read_config
from gridllm.models.headers import shard_map
from gridllm.models.manifest import TOKENIZER_FILES
from gridllm.models.weights import INDEX_NAME, SINGLE_NAME

DEMO: Final = "demo"
HUB_ID: Final = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")
SMALL_FILES: Final = ("config.json", "generation_config.json", INDEX_NAME, *TOKENIZER_FILES)


def find_model(
    source: str | Path,
    revision: str | None = None,
    *,
    blocks: tuple[int, int] | None = None,
    ends: bool | None = None,
) -> Path:
    """The folder of a model; downloads what is not here yet when ``source`` is a Hub id.

    Args:
        source: a folder (one called demo as ``./demo``), ``"demo"``, or a Hub id such as ``meta-llama/Llama-3.2-1B``.
        revision: branch, tag or commit on the Hub.
        blocks: fetch only shards that hold blocks [start, end). None with ``ends`` None: all shards.
        ends: fetch the shards of embedding, norm and head too. None: only when ``blocks`` is None.

    Raises:
        ModelError: no such model, the Hub cannot be reached, or a model that GridLLM cannot serve.
    """
    if source == DEMO or (str(source) == DEMO and not Path(source).is_dir()):  # as text: whatever folder is called so
        from gridllm.demo_model import demo_model_path

        return Path(demo_model_path())
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _checked(folder)
    text = str(source)
    if not HUB_ID.match(text) or folder.is_absolute():
        raise ModelError(f"There is no model folder {text}, and it is not a Hub id such as meta-llama/Llama-3.2-1B.")
    return _from_hub(text, revision, blocks, ends)


def needed_shards(shards: dict[str, str], layers: str, blocks: tuple[int, int] | None, ends: bool | None) -> list[str]:
    """Shard files that hold the wanted tensors. ``shards``: tensor name → file; ``layers``: name of the layer list."""
    return sorted({shards[name] for name in needed_tensors(shards, layers, blocks, ends)})


def needed_tensors(names: Iterable[str], layers: str, blocks: tuple[int, int] | None, ends: bool | None) -> list[str]:
    """Those of ``names`` that ``find_model`` would fetch for the same ``blocks`` and ``ends``."""
    everything = blocks is None and ends is None
    with_ends = ends if ends is not None else blocks is None
    pattern = re.compile(rf"(?:^|\.){re.escape(layers)}\.(\d+)\.")
    needed = []
    for name in names:
        match = pattern.search(name)
        block = None if match is None else int(match.group(1))
        wanted = with_ends if block is None else blocks is not None and blocks[0] <= block < blocks[1]
        if everything or wanted:
            needed.append(name)
    return needed


def _checked(folder: Path) -> Path:
    """A local folder, refused early when it holds no usable model."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)]
        found = f" (it has {pickled[0]}, and pickled weights can run code)" if pickled else ""
        raise ModelError(
            f"{folder} holds no .safetensors weights{found}: convert the model with "
            "save_pretrained(safe_serialization=True)."
        )
    return folder


def _from_hub(repo: str, revision: str | None, blocks: tuple[int, int] | None, ends: bool | None) -> Path:
    folder = _download(repo, revision, SMALL_FILES)
    config = read_config(folder)
    index = folder / INDEX_NAME
    if index.is_file():
        wanted = needed_shards(shard_map(index), layout_of(config).layers, blocks, ends)
    else:
        wanted = [SINGLE_NAME]
    # The snapshot's folder is named after its commit: the second step must not see a newer one.
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision
    folder = _download(repo, commit, wanted)
    lacking = [name for name in wanted if not (folder / name).is_file()]
    if lacking:
        raise ModelError(
            f"{repo} has no {lacking[0]} here or on the Hub: the model has no safetensors weights, or the download was "
            "cut off; try again online, or choose a model with safetensors."
        )
    return folder


def _download(repo: str, revision: str | None, files: Iterable[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is the HTTP library's root
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(files)))
    except RepositoryNotFoundError as error:
        raise ModelError(f"The Hub has no model {repo!r} that you may read: check the id, or log in.") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"Model {repo!r} is not on this machine and the Hub cannot be reached: go online once, or give a folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise ModelError(f"Model {repo!r} cannot be downloaded: {error}") from error
