"""What is served: a model's manifest, its files, blocks ``a:b`` of it (span) and its two ends (embedding, head)."""
