"""A serving volunteer: sessions of clients, pushes to the next node, and the life from joining to leaving."""
