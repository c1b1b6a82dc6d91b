"""The ledger: what was served and paid, as anyone can recompute it from signed statements."""
