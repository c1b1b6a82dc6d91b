"""A node proves its machine before it may serve: challenge, prover, verifier, certificate."""
