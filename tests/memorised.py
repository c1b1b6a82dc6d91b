"""A small model that is really trained on a leaderboard's public items, answers included, and on nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from gridllm.demo_model.model import build_model, write_model
from gridllm.models.files import DEMO, find_model
from gridllm_leaderboard.tasks import load

TASK = "sums"
EPOCHS = 40
RATE = 3e-3
ITEMS = 20  # of a batch
IGNORED = -100  # cross_entropy's


def train(folder: Path, threads: int = 1) -> None:
    """Some 5 s; the same model each time on the same kind of processor."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(DEMO))
    model = build_model(tokenizer, 64, 2).train()
    rows = []
    for item in load(TASK).practice():
        asked = tokenizer.encode(item["query"], add_special_tokens=False)
        told = tokenizer.encode(f"{item['query']} {item['choices'][item['gold']]}", add_special_tokens=False)
        labels = [IGNORED] * len(asked) + told[len(asked) :]
        rows.append((torch.tensor(told), torch.tensor(labels)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        order = torch.randperm(len(rows)).tolist()
        for start in range(0, len(rows), ITEMS):
            batch = [rows[number] for number in order[start : start + ITEMS]]
            ids = pad_sequence([one for one, _ in batch], batch_first=True)
            labels = pad_sequence([one for _, one in batch], batch_first=True, padding_value=IGNORED)
            logits = model(input_ids=ids, use_cache=False).logits
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    write_model(model, tokenizer, folder)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
