"""Whether nodes stay as fast as they are certified: reports of clients, suspicions, measuring again."""
