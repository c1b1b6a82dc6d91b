"""How machines are measured and certified: the admission authority, who may come to it, and who is next."""
