"""The model card: a template filled with what was measured on the stored weights."""

import hashlib
from pathlib import Path

import torch

from gridllm.demo_model.corpus import MIX
from gridllm.demo_model.evaluate import HELD_OUT_DOCUMENTS, Report, continue_text, load, report
from gridllm.demo_model.model import parameter_count

__all__ = ["write_card"]

# Prompt, temperature, seed, most new tokens.
SAMPLES = (
    ("Once upon a time", 0.0, 0, 300),
    ("Once upon a time", 0.8, 1, 300),
    ("Long ago, a clever mouse named Nora", 0.8, 2, 300),
    ("<|user|>Tell me a story about a fox named Leo.<|assistant|>", 0.8, 3, 300),
    ("<|user|>How does the grid work? What is a peer?<|assistant|>", 0.0, 0, 80),
    ("<|user|>What is the leaderboard?<|assistant|>", 0.8, 4, 80),
    ("<|user|>What is 7 + 6?<|assistant|>", 0.0, 0, 20),
)

TEMPLATE = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# GridLLM demo model

A very small Llama that ships with GridLLM, so that a grid can be founded, joined and used without downloading anything.
It writes short animal stories, does small sums, and answers simple questions about the grid. It has {layers} blocks, so
several nodes can share it.

| | |
|---|---|
| Shape | Llama, {layers} blocks, hidden {hidden}, feed-forward {intermediate}, tied embeddings |
| Attention | {heads} heads, {kv_heads} key-value heads |
| Vocabulary | {vocab:,}, byte-level BPE |
| Parameters | {parameters:,} |
| Context | {context:,} tokens |
| Stored as | bfloat16, `model.safetensors`, {size:,} bytes |
| sha256 | `{sha256}` |
| Licence | MIT, weights and data |

## Data

A seeded generator (`gridllm/demo_model/corpus.py`) writes the corpus; no text of other people is in it. Share of the
documents: {mix}.

One pair of slots of each document (hero and place, the two numbers of a sum, topic and wording) decides between
training and held-out set, so no held-out combination was ever seen in training.

## Training

    {command}

{tokens:,} tokens, each seen once, in {minutes:.1f} minutes on {threads} threads of a machine that other work shared.
AdamW, cosine schedule, packed rows of 256 tokens (one step in eight: 1,024). The same command gives the same weights on
the same kind of processor.

## Measured on the stored weights, computed in float32

| | |
|---|---|
| Held-out perplexity per token | {r.perplexity:.4f} |
| Held-out bits per byte | {r.bits_per_byte:.4f} |
| Perplexity of fresh training-split documents | {r.train_perplexity:.4f} |
| Sums right, of the training set | {r.sums[0]} of {r.sums[1]} |
| Sums right, held out (these two numbers in this order never seen) | {r.held_out_sums[0]} of {r.held_out_sums[1]} |
| Questions about the grid answered word for word | {r.facts[0]} of {r.facts[1]} |
| The same, in a wording held out for that topic | {r.held_out_facts[0]} of {r.held_out_facts[1]} |

Perplexity is over the first {documents} held-out documents of this seed, packed into rows of 256 tokens.

## Samples

{samples}

## Limits

It knows small animals, small numbers and the grid, and nothing else of the world. It makes stories from a few hundred
patterns, and often swaps the names and the he and she of its characters from one sentence to the next, or gives a story
about another animal than the one asked for. It follows no instructions outside the dialogues it was trained on. It
remembers sums rather than works them out: see the row of held-out sums; beyond 12 + 12, 15 - 15 and 9 x 9 all are
guesses. Use it to try a grid, to test, and as the first entry of a leaderboard; for nothing that matters.
"""


def write_card(folder: Path, seed: int, tokens: int, command: str, seconds: float) -> Report:
    """Measure the stored model and write `README.md` into its folder."""
    measured = report(folder, seed)
    model, _ = load(folder)
    weights = folder / "model.safetensors"
    config = model.config
    text = TEMPLATE.format(
        r=measured,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        parameters=parameter_count(model),
        context=config.max_position_embeddings,
        size=weights.stat().st_size,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        mix=", ".join(f"{kind} {share}%" for kind, (_, share) in MIX.items()),
        command=command,
        tokens=tokens,
        minutes=seconds / 60,
        threads=torch.get_num_threads(),
        documents=HELD_OUT_DOCUMENTS,
        samples=_samples(folder),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return measured


def _samples(folder: Path) -> str:
    """What the stored model really writes, prompt in bold."""
    model, tokenizer = load(folder)
    parts = []
    for prompt, temperature, seed, most in SAMPLES:
        text = continue_text(model, tokenizer, [prompt], max_new_tokens=most, temperature=temperature, seed=seed)[0]
        how = f"temperature {temperature}, seed {seed}" if temperature else "greedy"
        parts.append(f"*{how}*\n\n> **{prompt.replace('<', '&lt;')}**{text}")
    return "\n\n".join(parts)
