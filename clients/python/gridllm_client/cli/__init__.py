"""The user's commands: ``gridllm generate`` and ``gridllm demo``. Heavy imports are inside the functions."""
