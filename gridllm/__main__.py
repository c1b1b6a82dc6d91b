"""``python -m gridllm``: the same as the ``gridllm`` command."""

from gridllm.cli.main import main

if __name__ == "__main__":
    main()
