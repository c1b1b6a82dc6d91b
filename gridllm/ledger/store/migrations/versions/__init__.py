"""One file for each version of the ledger's database."""
