"""Streaming text: whole characters, stop strings across pieces, the same text as decoding at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridllm.models.files import find_model
from gridllm_client.text import Detokenizer, StopFinder

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


class Bytes:
    """A tokenizer whose tokens are single bytes: every character beyond ASCII is cut."""

    def decode(self, ids: list[int], **_: object) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


@given(TEXTS, TEXTS)
def test_pieces_add_up_to_the_text(prompt: str, text: str):
    detokenizer = Detokenizer(Bytes(), list(prompt.encode()))
    pieces = [detokenizer.add(token) for token in text.encode()]
    assert "".join(pieces) + detokenizer.rest() == text


@given(st.text("héllo wörld 🙂", min_size=1, max_size=20))
def test_no_piece_holds_half_a_character(text: str):
    detokenizer = Detokenizer(Bytes(), [])
    assert all("\ufffd" not in detokenizer.add(token) for token in text.encode())


def test_with_the_demo_models_tokenizer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find_model("demo"))
    text = "Once upon a time, Mira — a fox — said: 2 + 2 = 4. Ünïcödé 🙂 end"
    ids = tokenizer(text)["input_ids"]
    for cut in range(1, len(ids)):
        detokenizer = Detokenizer(tokenizer, ids[:cut])
        rest = "".join(map(detokenizer.add, ids[cut:])) + detokenizer.rest()
        whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        head = tokenizer.decode(ids[:cut], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not head.endswith("\ufffd"):
            assert head + rest == whole


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_are_found_wherever_they_are_cut(text: str, stops: list[str], data: st.DataObject):
    finder, given_out, at = StopFinder(stops), "", 0
    while at < len(text) and not finder.found:
        size = data.draw(st.integers(1, 5))
        given_out += finder.add(text[at : at + size])
        at += size
    seen = text[:at]
    if not finder.found:
        given_out += finder.rest()
    ends = [seen.find(stop) for stop in stops if stop in seen]
    assert finder.found == bool(ends)
    assert given_out == (seen[: min(ends)] if ends else text)
