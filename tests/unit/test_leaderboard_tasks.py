"""Tasks: items that follow from a seed, commitments, sealed pools, and task files that try to be more than data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import Line, digest_of, write_items
from gridllm_leaderboard.tasks import BUILT_IN, Task, from_files, load
from gridllm_leaderboard.tasks.folder import FolderTask
from gridllm_leaderboard.tasks.from_text import main, make_task, pieces
from gridllm_leaderboard.tasks.items import checked
from gridllm_leaderboard.tasks.taskfile import read_task_file

SEED, OTHER = bytes(32), b"\x01" * 32
CHOICE: Line = {"query": "2 + 2 =", "choices": ["4.", "5."], "gold": 0}
COMMITTED = {"stories": "28809a57a5631103", "sums": "f24b9d8a6b676c23", "facts": "8c638908bcdd4748"}
YAML = """task: mine
output_type: multiple_choice
doc_to_text: "Q: {{query}}\\nA:"
doc_to_choice: choices
doc_to_target: gold
"""


def digests(items: list[Line]) -> set[str]:
    return {digest_of(item) for item in items}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A task of real text: this repository's own pages."""
    pages = [path.read_text() for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]
    make_task(pages, tmp_path / "pages", name="pages", practice=20, size=600, seed=1)
    return tmp_path / "pages"


@pytest.mark.parametrize("name", BUILT_IN)
def test_items_follow_from_the_seed_and_are_never_public(name: str) -> None:
    task = load(name)
    items = task.draw(SEED, 50)
    assert items == load(name).draw(SEED, 50)
    assert len(digests(items)) == 50
    assert not digests(items) & digests(task.draw(OTHER, 50))
    assert not digests(items) & digests(task.practice())
    assert items[:20] == task.draw(SEED, 20)
    assert not digests(items[:5]) & digests(task.draw(SEED, 50, digests(items[:5])))


@pytest.mark.parametrize("name", BUILT_IN)
def test_gold_is_no_place_among_the_choices(name: str) -> None:
    items = load(name).draw(SEED, 200)
    if load(name).kind == "choice":
        places = [item["gold"] for item in items]
        assert all(30 < places.count(place) < 75 for place in range(4))


def test_commitments_are_the_same_everywhere() -> None:
    """A change of these numbers is a change of what graders are asked: rules must be issued again."""
    assert {name: load(name).commitment[:16] for name in BUILT_IN} == COMMITTED
    assert len({load(name).commitment for name in BUILT_IN}) == len(BUILT_IN)


def test_a_rule_names_the_task() -> None:
    rule = load("sums").rule(items=40, weight=3)
    assert (rule.name, rule.kind, rule.items, rule.weight) == ("sums", "choice", 40, 3)
    assert rule.commitment == load("sums").commitment


def test_real_text_becomes_a_sealed_task(texts: Path) -> None:
    task = load(texts)
    assert (task.name, task.kind, task.generated, len(task.practice())) == ("pages", "text", False, 20)
    drawn = task.draw(SEED, 10)
    assert drawn == load(texts).draw(SEED, 10)
    assert not digests(drawn) & digests(task.practice())
    assert not digests(drawn) & digests(task.draw(SEED, 10, digests(drawn)))
    assert (texts / "pool.jsonl").stat().st_mode & 0o077 == 0


def test_the_public_files_alone_have_the_same_commitment_and_draw_nothing(texts: Path) -> None:
    whole = load(texts)
    public = from_files(whole.files()["task.yaml"], whole.files()["practice.jsonl"])
    assert public.commitment == whole.commitment
    assert public.practice() == whole.practice()
    shown = b"".join(whole.files().values())
    assert not any(line in shown for line in (texts / "pool.jsonl").read_bytes().splitlines())
    with pytest.raises(LeaderboardError, match="sealed pool of the task pages is not here"):
        public.draw(SEED, 1)


def test_a_pool_runs_out(texts: Path) -> None:
    task = load(texts)
    assert isinstance(task, FolderTask)
    pool = task.pool() or []
    with pytest.raises(LeaderboardError, match="has 3 items left, and a round takes 4"):
        task.draw(SEED, 4, digests(pool[3:]))


def test_an_altered_pool_is_refused(texts: Path) -> None:
    lines = (texts / "pool.jsonl").read_bytes().splitlines(keepends=True)
    (texts / "pool.jsonl").write_bytes(b"".join(lines[1:]))
    with pytest.raises(LeaderboardError, match=f"pool_items: {len(lines) - 1}"):
        load(texts)


def test_a_public_item_in_the_pool_is_refused(texts: Path) -> None:
    (texts / "pool.jsonl").write_bytes((texts / "practice.jsonl").read_bytes())
    with pytest.raises(LeaderboardError, match=r"20 items stand in practice\.jsonl and in pool\.jsonl"):
        load(texts)


def test_a_changed_practice_item_changes_the_commitment(texts: Path) -> None:
    before = load(texts).commitment
    practice = load(texts).practice()
    (texts / "practice.jsonl").write_bytes(write_items(practice[1:]))
    assert load(texts).commitment != before


def test_the_maker_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "book.txt"
    source.write_text("\n\n".join(f"Paragraph {number} says something of its own." for number in range(400)))
    main([str(source), "--out", str(tmp_path / "My Book"), "--practice", "3", "--bytes", "500"])
    told = capsys.readouterr().out
    assert "3 practice items" in told and "0% of the sealed items" in told and "better" not in told
    assert load(tmp_path / "My Book").name == "my_book"
    with pytest.raises(SystemExit, match="pieces of 1000 bytes; 52 are needed"):
        main([str(source), "--out", str(tmp_path / "other")])


def test_the_maker_tells_of_a_text_that_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "forms.txt"
    notice = "All rights to these forms are reserved by whoever wrote them in the year that stands below"
    source.write_text("\n\n".join(f"Form {number}. {notice}" for number in range(60)))
    main([str(source), "--out", str(tmp_path / "forms"), "--practice", "3", "--bytes", "200"])
    assert (
        "100% of the sealed items have a run of 13 words in common with a public one; a text" in capsys.readouterr().out
    )


def test_pieces_are_whole_paragraphs() -> None:
    assert list(pieces("one\n\n two \n\n\nthree\n\nfour", size=8)) == ["one\n\ntwo", "three\n\nfour"]


def mine(tmp_path: Path, yaml: str, practice: object = CHOICE) -> Task:
    (tmp_path / "task.yaml").write_text(yaml)
    (tmp_path / "practice.jsonl").write_text(json.dumps(practice) + "\n")
    return load(tmp_path)


def test_a_task_may_put_words_around_its_query(tmp_path: Path) -> None:
    task = mine(tmp_path, YAML)
    assert task.file.config()["doc_to_text"] == "Q: {{query}}\nA:"
    assert task.practice() == [CHOICE]


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        pytest.param(YAML + "process_docs: !function utils.run\n", "Python", id="function"),
        pytest.param(YAML + "x: !!python/object/apply:os.system [id]\n", "Python", id="object"),
        pytest.param(YAML + "unsafe_code: true\n", "unsafe_code", id="unsafe"),
        pytest.param(YAML + "include: /etc/passwd\n", "include", id="include"),
        pytest.param(YAML + "custom_dataset: evil\n", "custom_dataset", id="dataset"),
        pytest.param(YAML + "dataset_path: evil/repo\n", "dataset_path", id="hub"),
        pytest.param(YAML + "dataset_kwargs: {data_files: {test: /etc/passwd}}\n", "data_files", id="file"),
        pytest.param(YAML + "description: \"{{ ''.__class__ }}\"\n", "description", id="description"),
        pytest.param(YAML + 'target_delimiter: "{{1}}"\n', "target_delimiter", id="delimiter"),
        pytest.param(YAML + "num_fewshot: 5\n", "num_fewshot", id="shots"),
        pytest.param(YAML + "metric_list: [{metric: acc, aggregation: !function a.b}]\n", "Python", id="metric"),
        pytest.param(YAML.replace("{{query}}", "{{query.__class__}}"), "doc_to_text", id="attribute"),
        pytest.param(YAML.replace("{{query}}", "{{query}}{% for x in y %}{% endfor %}"), "doc_to_text", id="statement"),
        pytest.param(YAML.replace("{{query}}", "{{query}} {{query}}"), "doc_to_text", id="twice"),
        pytest.param(YAML.replace("mine", "../mine"), "task", id="name"),
        pytest.param("a: &a [1]\nb: [*a, *a]\n", "alias", id="alias"),
        pytest.param("- 1\n", "mapping", id="list"),
        pytest.param("task: [\n", "cannot be used", id="broken"),
        pytest.param("#" * 20_000, "20000 bytes", id="long"),
        pytest.param("x: " + "[" * 7000, "cannot be used", id="deep"),
    ],
)
def test_what_is_no_data_is_refused(yaml: str, says: str) -> None:
    with pytest.raises(LeaderboardError, match=says):
        read_task_file(yaml.encode())


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"text": ""}, id="fields"),
        pytest.param(CHOICE | {"extra": 1}, id="extra"),
        pytest.param(CHOICE | {"gold": 2}, id="gold"),
        pytest.param(CHOICE | {"gold": True}, id="bool"),
        pytest.param(CHOICE | {"choices": ["4.", "4."]}, id="equal"),
        pytest.param(CHOICE | {"choices": ["4."]}, id="one"),
        pytest.param(CHOICE | {"choices": ["4.", " "]}, id="blank"),
        pytest.param(CHOICE | {"query": "42"}, id="number"),
        pytest.param(CHOICE | {"query": "\ud800 ?"}, id="surrogate"),
        pytest.param(CHOICE | {"query": "x" * 300_000}, id="huge"),
    ],
)
def test_what_cannot_be_graded_is_no_item(item: object) -> None:
    with pytest.raises(LeaderboardError, match="item"):
        checked(item, "choice")


def test_an_item_that_stands_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(YAML)
    (tmp_path / "practice.jsonl").write_text(f"{json.dumps(CHOICE)}\n\n{json.dumps(CHOICE)}\n")
    with pytest.raises(LeaderboardError, match=r"practice\.jsonl, item 2: it is there twice"):
        load(tmp_path)


def test_no_such_task() -> None:
    with pytest.raises(LeaderboardError, match="stories, sums, facts"):
        load("poems")
