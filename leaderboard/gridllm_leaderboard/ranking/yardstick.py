"""What a score was measured by: scores of two rounds compare where their rules ask the same. Pure.

The same tasks, with the same commitments (a pool of other texts is another task) and the same shares in the score. How
many items a round draws is left out: more of them make an interval narrower, and no score another. So are fees,
graders and the rest.
"""

from __future__ import annotations

import hashlib
import json
import math

from gridllm.charter.contest import Rules


def yardstick(rules: Rules) -> str:
    """A hex digest: equal where scores compare."""
    unit = math.gcd(*(task.weight for task in rules.tasks))  # 2 : 4 weighs as 1 : 2 does
    said = sorted((task.name, task.kind, task.commitment, task.weight // unit) for task in rules.tasks)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
