"""``gridllm`` as run by somebody whose node wants more than it earns: ``greedy_node.py KIND serve …``."""

from __future__ import annotations

import sys
from typing import Any

AFTER_TOKENS = 20
TIMES = 3


def program(kind: str) -> tuple[str, ...]:
    """For ``Running(home, …, program=…)``: "claims" more tokens than it was sent; "takes" what is paid ahead."""
    return (sys.executable, "-m", "tests.swarm.greedy_node", kind)


def main() -> None:
    from gridllm.cli.main import main as command
    from gridllm.errors import NodeFault
    from gridllm.node import hosting
    from gridllm.node.service.pausing import Pauses
    from gridllm.node.service.replies import send
    from gridllm.wire.messages import Owing

    kind = sys.argv.pop(1)
    usual = Pauses.holds

    async def boast(_span: object) -> float:
        return 1e9

    def claims(self: Pauses, session: Any, step: Any, hidden: Any) -> bool:
        bill = session.terms.bill
        if bill is None or sum(bill.meter.count) < AFTER_TOKENS:
            return usual(self, session, step, hidden)
        prefill, decode = (TIMES * tokens for tokens in bill.meter.count)
        send(session.client_link, Owing(session.id, prefill, decode, TIMES * bill.cost, "So much, or nothing."))
        return True

    def takes(self: Pauses, session: Any, step: Any, hidden: Any) -> bool:
        self._fail(session, NodeFault("Out of order."))
        return True

    Pauses.holds = {"claims": claims, "takes": takes}[kind]  # type: ignore[method-assign]
    hosting.measure_blocks_per_s = boast  # type: ignore[assignment]
    command()


if __name__ == "__main__":
    main()
