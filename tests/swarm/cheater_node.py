"""``gridllm`` as run by somebody who serves on a certificate that is not good: ``cheater_node.py FILE serve …``.

He cut admission out: shows what is in FILE, works with everybody, and boasts.
"""

from __future__ import annotations

import sys
from pathlib import Path


def program(certificate: Path) -> tuple[str, ...]:
    """For ``Running(home, …, program=…)``."""
    return (sys.executable, "-m", "tests.swarm.cheater_node", str(certificate))


def main() -> None:
    from gridllm.admission.gate import Gatekeeper
    from gridllm.cli.main import main as command
    from gridllm.node import hosting
    from gridllm.node.standing import Standing

    shown = Path(sys.argv.pop(1)).read_bytes()

    async def boast(_span: object) -> float:
        return 1e9

    Gatekeeper.required = property(lambda _: False)  # type: ignore[method-assign, assignment]
    Standing.raw = property(lambda _: shown, lambda _, raw: None)  # type: ignore[assignment]
    hosting.measure_blocks_per_s = boast
    command()


if __name__ == "__main__":
    main()
