"""The ledger's append-only Merkle log (RFC 9162, section 2.1): tree, right edge, tiles, signed heads, evidence."""
