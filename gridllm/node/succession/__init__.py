"""How a node goes over from one model to another while it serves."""
