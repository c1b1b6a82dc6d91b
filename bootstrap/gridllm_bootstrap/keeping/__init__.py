"""The ledger's keeper: what a maintainer's key does for the grid's books, inside ``gridllm bootstrap run``."""
