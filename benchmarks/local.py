"""The baseline: transformers' own generate() in one process with one thread.

Run as ``python -m benchmarks.local FOLDER``; reads JSON requests from standard input and answers each with a line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main(folder: Path) -> None:
    """Answer ``{"prompt": ids, "new_tokens": n, "batch": b}`` with seconds, CPU seconds and the first row's ids."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids = torch.tensor([request["prompt"]] * request.get("batch", 1))
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request["new_tokens"],
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        answer = {
            "seconds": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "tokens": out[0, ids.shape[1] :].tolist(),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
