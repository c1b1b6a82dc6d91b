"""A model's data plane on this node: links, sessions, steps, and what is pushed on."""
