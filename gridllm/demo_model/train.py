"""Train the demo model: `python -m gridllm.demo_model.train --out DIR`.

A fixed number of steps over a seeded corpus, so the same command gives the same model on the same kind of processor
(others add floats in another order and land within noise of it). Matrix products run in bfloat16, weights are float32.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gridllm.demo_model.batches import TOKENS_PER_STEP, training_batches
from gridllm.demo_model.card import write_card
from gridllm.demo_model.model import MAX_TOKENS, build_model, new_folder, write_model
from gridllm.demo_model.tokenizer import build_tokenizer

__all__ = ["TrainOptions", "main", "train"]

PEAK_LEARNING_RATE = 3e-3
FINAL_SHARE = 0.02  # of the peak, at the last step
WARM_UP_STEPS = 80
WEIGHT_DECAY = 0.1
GRADIENT_CLIP = 1.0
LOG_EVERY = 100  # steps


@dataclass(frozen=True)  # no slots: the parser reads the defaults off the class
class TrainOptions:
    """One run; two runs of equal options give equal weights on the same kind of processor."""

    out: Path
    steps: int = 3200
    seed: int = 0
    hidden: int = 192
    layers: int = 8
    threads: int = 2
    save_at: tuple[int, ...] = ()

    def command(self) -> str:
        """The command line of this run."""
        shape = f"--hidden {self.hidden} --layers {self.layers} --threads {self.threads}"
        return f"python -m gridllm.demo_model.train --out DIR --steps {self.steps} --seed {self.seed} {shape}"


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a small share of the peak."""
    warm_up = min(WARM_UP_STEPS, max(1, steps // 10))
    if step < warm_up:
        return PEAK_LEARNING_RATE * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return PEAK_LEARNING_RATE * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))


def build_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW that decays the matrices and leaves the norms alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    norms = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), fused=True)


def train_step(model: LlamaForCausalLM, optimizer: torch.optim.AdamW, batch: Tensor) -> float:
    """One update on a batch of packed rows; returns the loss in nats per token."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=batch, use_cache=False).logits  # [rows, tokens, vocab], bfloat16
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def train(options: TrainOptions) -> None:
    """Tokenizer, model, steps, then the folder with its card; stages of `save_at` go beside it as `DIR-step-N`."""
    started = time.monotonic()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer(options.seed, MAX_TOKENS)
    model = build_model(tokenizer, options.hidden, options.layers).train()
    run_steps(options, model, tokenizer)
    seconds = time.monotonic() - started
    with new_folder(options.out) as folder:
        write_model(model, tokenizer, folder)
        write_card(folder, options.seed, options.steps * TOKENS_PER_STEP, options.command(), seconds)


def run_steps(options: TrainOptions, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """All updates, with a progress bar that shows the smoothed loss."""
    optimizer = build_optimizer(model)
    smoothed = math.log(len(tokenizer))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("loss {task.fields[loss]:.3f}"), *columns) as progress:
        task = progress.add_task("train", total=options.steps, loss=smoothed)
        for step, batch in enumerate(training_batches(tokenizer, options.seed, options.steps), start=1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step - 1, options.steps)
            smoothed += 0.05 * (train_step(model, optimizer, batch) - smoothed)
            progress.update(task, advance=1, loss=smoothed)
            if step % LOG_EVERY == 0 and not progress.console.is_terminal:  # a log file shows no bar before the end
                progress.console.print(f"step {step} of {options.steps}, loss {smoothed:.3f}")
            if step in options.save_at and step < options.steps:
                with new_folder(options.out.with_name(f"{options.out.name}-step-{step}")) as folder:
                    write_model(model, tokenizer, folder)


def parse(arguments: Sequence[str] | None) -> TrainOptions:
    """Options from the command line."""
    parser = argparse.ArgumentParser(prog="python -m gridllm.demo_model.train", description="Train the demo model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced if it exists")
    parser.add_argument("--steps", type=int, default=TrainOptions.steps, help="updates of 1,024 tokens each")
    parser.add_argument("--seed", type=int, default=TrainOptions.seed, help="seed of the corpus and the first weights")
    parser.add_argument("--hidden", type=int, default=TrainOptions.hidden, help="width; a multiple of 32")
    parser.add_argument("--layers", type=int, default=TrainOptions.layers, help="number of blocks")
    parser.add_argument("--threads", type=int, default=TrainOptions.threads, help="processor threads")
    parser.add_argument("--save-at", default="", metavar="N,N", help="also save after these steps, as OUT-step-N")
    values = vars(parser.parse_args(arguments))
    save_at = tuple(int(step) for step in values.pop("save_at").split(",") if step)
    return TrainOptions(**values, save_at=save_at)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    train(parse(arguments))


if __name__ == "__main__":
    main()
