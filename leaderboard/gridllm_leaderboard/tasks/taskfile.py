"""``task.yaml``: a task in lm_eval's own format, of which we take what is data and refuse what is code.

lm_eval itself runs Python that a file names (``!function``) and Jinja templates without a sandbox. A grader gets these
files from a leaderboard, so that here every key is named, templates may only put in the fields of an item, and the
items always come from us.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from gridllm.charter.contest import TaskName
from gridllm.errors import LeaderboardError
from gridllm.identity.fields import HexDigest, Strict

MAX_YAML_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 8

Kind = Literal["text", "choice"]
KINDS: Final[dict[str, Kind]] = {"loglikelihood_rolling": "text", "multiple_choice": "choice"}
"""lm_eval's output type → ours."""


class DataFiles(Strict):
    """Where lm_eval's own command line finds items: the public ones."""

    test: Literal["practice.jsonl"]


class DatasetKwargs(Strict):
    """lm_eval's ``dataset_kwargs``."""

    data_files: DataFiles


class Metric(Strict):
    """What lm_eval reports beside our points."""

    metric: Literal["acc", "acc_norm", "bits_per_byte", "byte_perplexity", "word_perplexity"]
    aggregation: Literal["mean", "bits_per_byte", "weighted_perplexity"]
    higher_is_better: bool


class Metadata(Strict):
    """Free in lm_eval's format; here it seals the pool."""

    version: float | int = 1.0
    pool: HexDigest | None = None  # results.items_root of the sealed items, in their order
    pool_items: Annotated[int, Field(ge=2, le=10_000_000)] | None = None


class TaskFile(Strict):
    """The keys that may stand in a ``task.yaml``."""

    task: TaskName
    dataset_path: Literal["json"] = "json"
    dataset_kwargs: DatasetKwargs = DatasetKwargs(data_files=DataFiles(test="practice.jsonl"))
    test_split: Literal["test"] = "test"
    output_type: Literal["loglikelihood_rolling", "multiple_choice"]
    doc_to_text: Annotated[str, Field(max_length=4096)] = ""
    doc_to_choice: Literal["choices"] | None = None
    doc_to_target: Literal["text", "gold"]
    target_delimiter: Annotated[str, Field(max_length=16, pattern=r"^[^{}]*$")] = " "
    description: Annotated[str, Field(max_length=4096, pattern=r"^[^{}]*$")] = ""
    num_fewshot: Literal[0] = 0
    metric_list: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=5)] | None = None
    metadata: Metadata = Metadata()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        text = (self.doc_to_text, self.doc_to_choice, self.doc_to_target, self.description)
        if self.kind == "text" and text != ("", None, "text", ""):
            raise ValueError(
                'of a text, doc_to_target is "text", and doc_to_text, doc_to_choice, description are empty'
            )
        if self.kind == "choice":
            if (self.doc_to_choice, self.doc_to_target) != ("choices", "gold"):
                raise ValueError('of a choice, doc_to_choice is "choices" and doc_to_target is "gold"')
            if self.doc_to_text != "query" and not _takes_the_query(self.doc_to_text):
                raise ValueError('doc_to_text is "query", or text with {{query}} in it once and no other template')
        return self

    @property
    def kind(self) -> Kind:
        """``text`` or ``choice``."""
        return KINDS[self.output_type]

    def config(self) -> dict[str, Any]:
        """The same as a configuration for lm_eval, less where its items come from."""
        left_out = {"dataset_path", "dataset_kwargs", "metadata"}
        return {**self.model_dump(mode="json", exclude=left_out, exclude_none=True), "repeats": 1}


def read_task_file(raw: bytes) -> TaskFile:
    """A ``task.yaml``, strictly.

    Raises:
        LeaderboardError: oversized, no YAML, with aliases or tags, with a key or template that is not taken.
    """
    if len(raw) > MAX_YAML_BYTES:
        raise LeaderboardError(f"task.yaml has {len(raw)} bytes; at most {MAX_YAML_BYTES} are taken.")
    try:
        _check_plain(raw)
        loaded = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:300]
        raise LeaderboardError(f"task.yaml cannot be used: {why}. Python (`!function`) is not taken.") from error
    if not isinstance(loaded, dict):
        raise LeaderboardError("task.yaml is not a mapping of lm_eval's keys to values.")
    try:
        # by way of Python objects, strict about types; lists become tuples where the model has these
        return TaskFile.model_validate(_with_tuples(loaded))
    except (ValidationError, RecursionError) as error:
        why = _first(error) if isinstance(error, ValidationError) else "it is nested too deeply"
        raise LeaderboardError(f"task.yaml cannot be used: {why}.") from error


def _check_plain(raw: bytes) -> None:
    """Raises LeaderboardError before what is nested or repeated takes time and memory; YAMLError."""
    depth = 0
    for event in yaml.parse(raw, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise LeaderboardError("task.yaml holds an alias (*name); write what it stands for instead.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise LeaderboardError(f"task.yaml cannot be used: it is nested more than {MAX_DEPTH} deep.")


def _with_tuples(loaded: dict[Any, Any]) -> dict[Any, Any]:
    metrics = loaded.get("metric_list")
    return {**loaded, "metric_list": tuple(metrics)} if isinstance(metrics, list) else loaded


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'its keys'}: {first['msg']}"[:300]


def _takes_the_query(template: str) -> bool:
    """Whether a Jinja template does nothing but put the query in."""
    without, count = re.subn(r"\{\{ ?query ?\}\}", "", template)
    return count == 1 and "{" not in without and "}" not in without
