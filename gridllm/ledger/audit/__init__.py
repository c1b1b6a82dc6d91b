"""The audit: every balance recomputed from the keepers' logs, without taking anybody's word."""

from gridllm.ledger.audit.examine import Report, audit
from gridllm.ledger.audit.faults import Wrong

__all__ = ["Report", "Wrong", "audit"]
