"""Dialogues in the chat format, and the template that gives applications the same format."""

import random

from gridllm.demo_model.facts import fact_question
from gridllm.demo_model.holdout import Split
from gridllm.demo_model.small_talk import small_talk
from gridllm.demo_model.stories import Story, tell
from gridllm.demo_model.sums import sum_question

__all__ = ["CHAT_TEMPLATE", "SPECIAL_TOKENS", "chat_text", "render"]

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

SYSTEM = (
    "You are a helpful assistant.",
    "You are the voice of the grid.",
    "You are a friendly assistant on the grid.",
    "Answer in short sentences.",
)
STORY_REQUESTS = (
    "Tell me a story about {a_kind}.",
    "Tell me a story about {a_kind} named {name}.",
    "Write a short story about {a_kind} and {a_fkind}.",
    "Can you tell me a story?",
    "Tell me a story.",
    "Tell me a story about {name} the {kind} and {friend} the {fkind}.",
    "Please tell me a story about {name} and {friend}.",
    "I would like to hear a story about {a_trait} {kind}.",
    "Write a story that takes place {place}.",
)


def render(messages: list[Message]) -> str:
    """The messages as `CHAT_TEMPLATE` writes them, less the first token, which the tokenizer adds."""
    ends = {"assistant": "</s>"}
    return "".join(f"<|{m['role']}|>{m['content'].strip()}{ends.get(m['role'], '')}" for m in messages)


def chat_text(rng: random.Random, split: Split) -> str:
    """A dialogue of one to four questions; a story is asked for as the last one."""
    messages: list[Message] = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(SYSTEM)})
    if rng.random() < 0.35:
        messages += _turn(rng, *small_talk(rng))
    for _ in range(rng.randint(0, 2)):
        messages += _turn(rng, *rng.choice((fact_question, fact_question, sum_question))(rng, split))
    ask = _story_question if rng.random() < 0.5 else rng.choice((fact_question, sum_question))
    messages += _turn(rng, *ask(rng, split))
    return render(messages)


def _turn(rng: random.Random, question: str, answer: str) -> list[Message]:
    """One question and its answer; people do not always type capitals and question marks."""
    if rng.random() < 0.15:
        question = question.lower()
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _story_question(rng: random.Random, split: Split) -> tuple[str, str]:
    story = Story(rng, split)
    return rng.choice(STORY_REQUESTS).format(**story.slots), tell(story)
