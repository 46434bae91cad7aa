# make quickstart   environment, then the whole pipeline on embedded stories, a small model, on a CPU, in minutes
# make test         environment, then the test suite
# make test-fast    environment, then its tests that are neither slow nor run DVC: under two minutes on two cores
# make reproduce    environment, then `dvc repro`: what params.yaml says, as committed the reference run
# make lint         environment, then formatting, style and types
# make bench        environment, then the benchmarks on the machine at hand: half an hour on two cores
# make bench-gpu    the same and more on a machine with an NVIDIA GPU, in 8 minutes (benchmarks/README.md)
# make state        the saved states of trainings, from which they resume; make clean-state frees the finished ones
# make record       the MLflow runs of all commits and experiments again, from git and DVC's cache
# make torture      environment, then 100 kills at all kill points of the pipeline; ARGS="--kills 20 --seed 1" for others

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stages call `python`: it must be the environment's.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

# A model of 1 M parameters, and stories enough for it: minutes on two cores.
QUICKSTART := data.source=embedded data.embedded.stories=20000 tokenizer.vocab_size=2000 \
	model.context_length=256 model.embedding_size=128 model.layers=4 model.heads=2 \
	train.batch_size=8 train.epochs=2 train.steps_per_epoch=500 train.log_every=10

.PHONY: quickstart test test-fast reproduce lint bench bench-gpu state clean-state record torture

quickstart: $(VENV)/.installed
	@$(RUN) dvc exp run --quiet $(addprefix -S ,$(QUICKSTART)) \
		|| { echo "The pipeline stopped. To see where, and to go on: source $(BIN)/activate && dvc repro"; exit 1; }
	@echo
	@echo "Look at reports/report.md and reports/plot.png; then: source $(BIN)/activate && mlflow ui"
	@echo "The parameters of this run stand in params.yaml; git checkout params.yaml brings the reference run's back."

test: $(VENV)/.installed-dev
	$(RUN) python -m pytest $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(RUN) python -m pytest -m "not slow and not pipeline" $(ARGS)

reproduce: $(VENV)/.installed
	$(RUN) dvc repro

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# ARGS names parts: make bench ARGS=train_step
bench: $(VENV)/.installed-bench
	$(RUN) python -m benchmarks $(ARGS)

# Such a machine may have PyTorch and little else, and no network: without an environment here, its own Python does.
bench-gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu $(ARGS)

state: $(VENV)/.installed
	@$(BIN)/python -m tinystories.training.retention

# ARGS=--all frees those of interrupted trainings too
clean-state: $(VENV)/.installed
	@$(BIN)/python -m tinystories.training.retention --free $(ARGS)

record: $(VENV)/.installed
	@$(RUN) python -m tinystories.publishing.record

torture: $(VENV)/.installed-dev
	$(RUN) python -m tests.support.torture $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or later, as in `make PYTHON=python3.12 quickstart`" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
