# One command for each thing one does here. `make` alone sets up .venv and trains the network of chapter 05.

PYTHON ?= python3
BIN := .venv/bin

# The notebooks run in nbs/, so a path that was given from here must not depend on where it is read.
ifneq ($(MINIBATCH_DATA),)
export MINIBATCH_DATA := $(shell $(PYTHON) -c 'import os, sys; print(os.path.abspath(os.path.expanduser(sys.argv[1])))' "$(MINIBATCH_DATA)")
endif

PORT ?= 8000
PYTEST = $(BIN)/pytest -n 2 --dist loadgroup

.PHONY: train setup test check elsewhere lab notebooks docs serve quarto bench readme export help clean
.DEFAULT_GOAL := train

train: setup ## set up and train the network of chapter 05 (this is what plain `make` does)
	$(BIN)/minibatch-train --no-shuffle

setup: .venv/installed ## set up .venv, if that has not been done

.venv/installed: settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else f"Python {v[0]}.{v[1]} is too old or too new: expected 3.10 to 3.13. Name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: setup ## set up and test notebooks, modules, package and commands (all that is slow too: SLOW=1)
	$(PYTEST) -m '$(if $(SLOW),not elsewhere,not slow)' tests

check: ## all that must pass: make test SLOW=1, the site in a browser, the notebooks as on other processors
	$(MAKE) test SLOW=1
	$(MAKE) elsewhere

elsewhere: docs
	$(PYTEST) -m elsewhere tests

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab nbs

notebooks: setup ## run every notebook from a fresh kernel, store what it prints, export the modules
	$(BIN)/python tests/outputs.py --write
	$(BIN)/nbdev_export

docs: setup ## build the site into _site/, without Quarto and without a network
	rm -rf _site
	$(BIN)/python site/convert.py
	$(BIN)/sphinx-build -q -W --keep-going -c site _sphinx _site
	@echo 'The site is in _site/; make serve shows it.'

serve: docs ## show the site on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _site $(PORT)

quarto: setup ## build the site that is published into _docs/, with Quarto
	@command -v quarto >/dev/null || { echo 'Quarto is not here. Get it from https://quarto.org; make docs does without.'; exit 1; }
	rm -rf _proc
	PYTHONPATH=site $(BIN)/nbdev_docs

bench: setup ## compare this book's ways to train with others (about two minutes)
	$(BIN)/minibatch-bench

readme: setup ## write README.md from nbs/index.ipynb
	$(BIN)/python site/convert.py --readme

export: setup ## write the modules in minibatch/ from the notebooks
	$(BIN)/nbdev_export

# `make -B constraints.txt` moves every pin but torch's to the newest version.
constraints.txt:
	$(BIN)/pip install --quiet uv
	echo '# What was tested, for every Python from 3.10 to 3.13. Made by: make -B constraints.txt' > $@.new
	echo 'torch==2.13.0' | $(BIN)/uv pip compile --no-cache --universal --python-version 3.10 --extra dev --no-annotate --no-header \
	    --constraints - setup.py | grep -Ev '^(nvidia-|cuda-|triton)' >> $@.new
	mv $@.new $@

clean: ## remove what the other commands have made, .venv included
	rm -rf .venv _proc _sphinx _site _docs build dist *.egg-info .pytest_cache

help: ## list these commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'
