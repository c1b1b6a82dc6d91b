# Everything runs in $(VENV), which is made on first use; nothing is needed but Python 3.11 or newer.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu    on Linux, to leave out the CUDA libraries of torch
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
TORCH := torch>=2.8,<2.14
# More than CI's processors, since tests wait for processes, time-outs and disks.
WORKERS ?= 3
BIN := $(VENV)/bin
# pip would compile 18,000 modules, one after the other. Few of them are ever loaded: those compile when they are, here
# before many processes load them at once. It has to be kept: else each process that a test starts compiles all it loads.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --no-compile -qq
COMPILE := $(BIN)/python -c 'import gridllm.node.lifecycle, gridllm_bootstrap.serve, gridllm_client.champion, \
	gridllm_leaderboard.serve, transformers.generation, transformers.models.auto.tokenization_auto, \
	transformers.models.llama.modeling_llama'
# A file's tests share what they start, so they stay together; one thread each, since workers share the processor.
PYTEST := OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),1) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=15

NONE_CHOSEN := $(if $(strip $(PYTEST_ARGS)),|| [ $$? -eq 5 ])

.PHONY: demo test soak jitter lint types contracts docs bench clean
.DEFAULT_GOAL := test

# One stamp for each set of packages, so that `make demo` installs no test tools; they hold what a larger one installed.
$(VENV)/.torch: pyproject.toml
	@echo "Installing GridLLM into $(VENV) (torch is the large part)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(if $(TORCH_INDEX),$(PIP) "$(TORCH)" --index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/.runtime: $(VENV)/.torch
	@$(PIP) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.torch
	@$(PIP) -e '.[dev]'
	@$(COMPILE)
	@touch $(VENV)/.runtime $@

$(VENV)/.bench: $(VENV)/.runtime
	@$(PIP) -e '.[bench]'
	@touch $@

demo: $(VENV)/.runtime  ## a grid of four processes on this machine, and text generated through it
	@$(BIN)/gridllm demo

# Two runs, so that real processes do not compete with the other tests for the processor. PYTEST_ARGS is for both, and
# may choose tests of one of them only; a path in it is all that is run. Files with few tests run longest there: as they
# come, not last, so that no worker waits for the other at the end.
test: $(VENV)/.dev  ## everything but the soak tests
ifneq ($(filter tests/%,$(PYTEST_ARGS)),)
	@$(PYTEST) $(PYTEST_ARGS)
else
	@$(PYTEST) tests/unit $(PYTEST_ARGS) $(NONE_CHOSEN)
	@$(PYTEST) --no-loadscope-reorder tests/swarm $(PYTEST_ARGS) $(NONE_CHOSEN)
endif

soak: $(VENV)/.dev  ## many random failures in a row (minutes)
	@$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

jitter: $(VENV)/.dev  ## the unit tests with random delays, which show what depends on luck; JITTER_SEED=n for others
	@$(PYTEST) -p tests.jitter -p tests.leaps tests/unit $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev
	@$(BIN)/mypy

contracts: $(VENV)/.dev  ## which room may import which
	@$(BIN)/lint-imports

docs: $(VENV)/.runtime  ## write docs/commands.md from the commands' own help
	@$(BIN)/python -m gridllm.cli.reference docs/commands.md

bench: $(VENV)/.bench  ## speed of chains beside the local model; writes docs/performance.md
	@$(BIN)/python -m benchmarks.chain --docs docs

clean:
	rm -rf $(VENV) .venv-ci .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
