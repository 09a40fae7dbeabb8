# Two commands matter: `make demo` and `make test`. Both work on a fresh machine with python3 >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out

.PHONY: help demo test lint format bench separation contract clean

help:            ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

demo: $(VENV)/.installed  ## generate a track and split it into stems, through the whole fleet, into ./out
	@$(BIN)/soundfleet demo --out $(OUT)

test: $(VENV)/.installed  ## every test, against real Redis and real S3
	$(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/.installed  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench/.installed  ## the queue beside its peers; results in benchmarks/results
	$(VENV)/bench/bin/python benchmarks/queue.py

separation: $(VENV)/.installed  ## separation beside demucs' own API; results in benchmarks/results
	$(BIN)/python benchmarks/separation.py
	$(BIN)/python benchmarks/separation.py --model htdemucs --seconds 30

contract: $(VENV)/.installed  ## write the JSON Schemas and the AsyncAPI document again
	$(BIN)/python -m soundfleet_schemas.contract

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,local,dev]'
	@touch $@

# The peers ask for other versions than constraints.txt has, so they get a place of their own.
$(VENV)/bench/.installed: pyproject.toml
	@test -x $(VENV)/bench/bin/python || $(PYTHON) -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[local,bench]'
	@touch $@

clean:           ## remove the virtual environment and what the demo wrote
	rm -rf $(VENV) $(OUT)
