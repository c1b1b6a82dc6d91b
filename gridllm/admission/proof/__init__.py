"""What a candidate proves: memory that it holds and steps that it computed, and how the authority checks both."""
