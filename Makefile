# make quickstart   environment, then the whole pipeline on embedded stories, a small model, on a CPU, in minutes
# make mytext FILES=my_stories   the same on your own stories (a directory or a file)
# make test         environment, then the test suite
# make test-fast    environment, then its tests that are neither slow nor run DVC: under two minutes on two cores
# make reproduce    environment, then the reference run, which is params.yaml as committed
# make lint         environment, then formatting, style and types
# make bench        environment, then the benchmarks on the machine at hand: half an hour on two cores
# make bench-gpu    the same and more on a machine with an NVIDIA GPU, in 8 minutes (benchmarks/README.md)
# make experiments  DVC's experiments, the best first: what differs, and three metrics; ARGS=-A for those of all commits
# make state        the saved states of trainings, from which they or longer ones go on; make clean-state frees them,
#                   but for those of stopped trainings
# make record       the MLflow runs of all commits and experiments again, from git and DVC's cache
# make torture      environment, then 100 kills at all kill points of the pipeline; ARGS="--kills 20 --seed 1" for others

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stages call `python`: it must be the environment's. DVC starts them with $SHELL, which may be /usr/sbin/nologin.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" SHELL=/bin/sh
# DVC keeps experiments as commits. Where git knows no name, as in most containers, these targets lend them one.
NAMELESS := $(shell git -c user.useConfigOnly=true var GIT_COMMITTER_IDENT >/dev/null 2>&1 || echo yes)
ifdef NAMELESS
RUN += $(foreach who,AUTHOR COMMITTER,GIT_$(who)_NAME=nobody GIT_$(who)_EMAIL=nobody@localhost)
endif
# `dvc --quiet` alone hides errors, too: it shows only what is CRITICAL.
QUIET_DVC := python -c 'import logging; logging.CRITICAL = logging.ERROR; from dvc.cli import main; exit(main())'

# Two processes, each test file in one of them, in the usual order: the longest are not the last. If one of them crashes,
# all ends: xdist would wait for ever for what it had left.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# A model of 1 M parameters that trains in minutes on two cores, and stories enough for it.
SMALL := tokenizer.vocab_size=2000 model.context_length=256 model.embedding_size=128 model.layers=4 model.heads=4 \
	train.batch_size=8 train.epochs=2 train.steps_per_epoch=500 train.warmup_steps=10 train.log_every=10 \
	train.learning_rate=0.005 sample.temperature=0.6 sample.max_new_tokens=400
# The places of own stories are watched whatever the source, so they are some that are there.
QUICKSTART := data.source=embedded data.embedded.stories=20000 \
	data.files.train=data/own/train data.files.valid=data/own/valid

.PHONY: quickstart mytext test test-fast reproduce lint bench bench-gpu experiments state clean-state record torture check \
	check-files check-reference

quickstart: check $(VENV)/.installed
	@$(RUN) $(QUIET_DVC) exp run --quiet $(addprefix -S ,$(QUICKSTART) $(SMALL)) || { $(STOPPED); }
	@$(NEXT)

mytext: check-files check $(VENV)/.installed
	@$(RUN) $(QUIET_DVC) exp run --quiet -S data.source=files -S "data.files.train='$(FILES)'" \
		$(addprefix -S ,data.files.valid=data/own/valid $(SMALL)) || { $(STOPPED); }
	@$(NEXT)

define STOPPED
echo "Stopped; the reason stands above. The same command goes on from there."; exit 1
endef

define NEXT
echo; \
echo "params.yaml holds the values of this small run now; what follows varies them."; \
[ -z "$(NAMELESS)" ] || { echo "Experiments are commits, and git has no name for you yet:"; \
	echo "    git config user.name you"; echo "    git config user.email you@example.org"; }; \
"$${SHELL:-/bin/sh}" -c : >/dev/null 2>&1 || { echo "DVC runs stages with $$SHELL, which runs nothing:"; \
	echo "    export SHELL=/bin/sh"; }; \
echo "Next:"; echo "    source $(BIN)/activate"; echo "    mlflow ui"; echo "    dvc exp run -S train.epochs=3"
endef

check:
	@[ -w . ] || { echo "This directory is read-only; clone the repository to one where you may write"; exit 1; }
	@git rev-parse --verify --quiet HEAD >/dev/null || \
		{ echo "git finds no commit here, and DVC needs one: git clone, or git init and commit"; exit 1; }

check-files:
	@[ -n "$(FILES)" ] || { echo "Which files? make mytext FILES=my_stories"; exit 1; }
	@[ -e "$(FILES)" ] || { echo "$(FILES): no such file or directory; DVC watches one: make mytext FILES=my_stories"; exit 1; }

check-reference:
	@git diff --quiet HEAD -- params.yaml || { echo "params.yaml is not as committed: git checkout params.yaml first," \
		"or \`dvc repro\` for the file as it is"; exit 1; }

test: $(VENV)/.installed-dev
	$(RUN) python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(RUN) python -m pytest $(SIDE_BY_SIDE) -m "not slow and not pipeline" $(ARGS)

reproduce: check check-reference $(VENV)/.installed
	$(RUN) dvc repro
	@echo "What follows is of this size, until: make quickstart"

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

# Names, parameters and three metrics stay. Some metrics of data.json begin as parameters do. In a narrow terminal DVC
# would leave out what does not fit; its pager scrolls to the right.
METRICS := valid_loss|valid_bits_per_byte|seconds
COUNTS := stories|words|bytes|p\d|shortest|longest
SHOWN := Exp|seed|(data|tokenizer|checks|model|train|evaluate|sample)\.(?!$(COUNTS))|$(METRICS)
experiments: check $(VENV)/.installed
	@$(RUN) COLUMNS=250 dvc exp show --only-changed --drop '(?!$(SHOWN))' \
		--sort-by reports/evaluate.json:valid_bits_per_byte $(ARGS)

state: $(VENV)/.installed
	@$(BIN)/python -m tinystories state

# ARGS=--all frees those of interrupted trainings too
clean-state: $(VENV)/.installed
	@$(BIN)/python -m tinystories state --free $(ARGS)

record: check $(VENV)/.installed
	@$(RUN) python -m tinystories.publishing.record

torture: $(VENV)/.installed-dev
	$(RUN) python -m tests.support.torture $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or later, as in `make PYTHON=python3.12 quickstart`" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Installing PyTorch and the rest into $(VENV), 1.8 GB or more: 2 to 3 minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
