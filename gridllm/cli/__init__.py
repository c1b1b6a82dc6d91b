"""The command line: one file per command, each importing its room inside the function so that help stays fast."""
