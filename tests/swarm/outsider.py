"""``gridllm`` as run by somebody who cut admission out: serves without certificate, works with everybody, boasts.

Runs as a program; tests start it with ``Running(…, program=OUTSIDER)``.
"""

from __future__ import annotations

import sys

OUTSIDER = (sys.executable, "-m", "tests.swarm.outsider")


def main() -> None:
    from gridllm.admission.gate import Gatekeeper
    from gridllm.cli.main import main as command
    from gridllm.node import hosting

    async def boast(_span: object) -> float:
        return 1e9

    Gatekeeper.required = property(lambda _: False)  # type: ignore[method-assign, assignment]
    hosting.measure_blocks_per_s = boast
    command()


if __name__ == "__main__":
    main()
