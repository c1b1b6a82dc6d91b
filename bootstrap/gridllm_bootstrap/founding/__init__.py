"""How a grid comes into being: its charter, what that offers and asks for, from flags as typed."""
