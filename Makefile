# One command sets up and runs the main job (`make demo`), one sets up and runs every test (`make test`).
# Everything else is for people who work on SynthGAN. `make help` lists the targets.

VENV  ?= .venv
# The first of these that is Python 3.11 to 3.13; name another with PYTHON=/path/to/python.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
MODEL  ?= head-mr-ct
INPUT  ?=
OUTPUT ?= demo
# Which volume of a 4D input, and whether results in a folder other than demo/ may be replaced (FORCE=1).
FRAME  ?=
FORCE  ?=
# The real images of the zoo (Testing/Zoo says which), and the factor on its steps.
DATA   ?= ../shared/data
SCALE  ?=
# Whole-head label maps to train on (Docs/tutorial.md, part 4), and where a run is kept.
LABELS ?= ../shared/data/head_labels
RUN    ?= runs/head-mr-ct

PY    := $(VENV)/bin/python
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint docs lists bench bench-training bench-panel zoo real-heads models train-head clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "  make demo INPUT=my_t1.nii.gz MODEL=head-mr-ct OUTPUT=folder   the same on your own volume or DICOM folder"

# The environment is made once: a Python that is named later must not seem to be the one that ran.
.PHONY: named-python
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
named-python:
	@test "$(origin PYTHON)" = file || ! test -x $(PY) || \
	  test "$$($(PYTHON) -c '$(VERSION)')" = "$$($(PY) -c '$(VERSION)')" || { echo "$(VENV) was made with Python" \
	  "$$($(PY) -c '$(VERSION)') and not with $(PYTHON): remove it, or name another one with VENV=." >&2; exit 2; }

# Rebuilt when the project's requirements change; otherwise a second run starts at once.
$(READY): pyproject.toml constraints.txt | named-python
	@test -n "$(PYTHON)" || { echo "SynthGAN needs Python 3.11, 3.12 or 3.13 and found none:" \
	  "install one, or name it with 'make PYTHON=/path/to/python3.12 ...'." >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The virtual environment could not" \
	  "be made: install Python's venv package (Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 2; }
	@echo "Installing into $(VENV) (once; some minutes and 3 to 7 GB of disk) ..."
	@$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## synthesise a CT in a real MRML scene; results in demo/ (INPUT=, MODEL=, OUTPUT=)
	@$(PY) Tools/Demo/demo.py --model "$(MODEL)" --output "$(OUTPUT)" $(if $(INPUT),--input "$(INPUT)") \
	  $(if $(FRAME),--frame "$(FRAME)") $(if $(FORCE),--force)

test: $(READY) ## lint, type check and every test, each suite in a process of its own
	@$(PY) Testing/run_all.py

test-fast: $(READY) ## for daily work: ruff, its formatter, import layers and the library's tests that are not marked slow
	@$(PY) Testing/run_all.py fast

lint: $(READY) ## ruff, its formatter, import layers and mypy only
	@$(PY) Testing/run_all.py ruff format imports mypy

$(VENV)/ready-docs: $(READY)
	@$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/ready-docs ## build the documentation as a site in site/, without the network
	@$(PY) Testing/run_all.py docs

lists: $(READY) ## write the lists of files in the CMake files
	@$(PY) Tools/cmake_lists.py

bench: $(READY) ## measure speed and memory beside MONAI into Docs/benchmarks.md
	$(PY) Tools/Benchmarks/bench_inference.py --out Docs/benchmarks.md

bench-training: $(READY) ## measure training steps beside a plain form into Docs/benchmarks_training.md
	$(PY) Tools/Benchmarks/bench_training.py --out Docs/benchmarks_training.md

bench-panel: $(READY) ## measure the module's import and the panel's opening into Docs/benchmarks_panel.md
	$(PY) Tools/Benchmarks/bench_panel.py --out Docs/benchmarks_panel.md

zoo: $(READY) ## train a compact form of every recipe on real and simulated pairs into Docs/methods.md (DATA=, SCALE=)
	$(PY) Tools/Zoo/zoo.py --data "$(DATA)" $(if $(SCALE),--scale "$(SCALE)")

real-heads: $(READY) ## compare the bundled models' skulls with those of real patients into Docs/real_heads.md (DATA=)
	$(PY) Tools/Benchmarks/bench_skulls.py --data "$(DATA)" --out Docs/real_heads.md

models: $(READY) ## list the bundled models and verify their files and test vectors
	@$(PY) Tools/verify_models.py

train-head: $(READY) ## train the model head-mr-ct again from its seed (LABELS=, RUN=)
	$(PY) -m Tools.Models.head_mr_ct.train --labels "$(LABELS)" --out "$(RUN)"

clean: ## remove the environment, caches and the demo's results
	rm -rf $(VENV) demo site build dist .coverage .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
