# The two commands of a newcomer are `make demo` and `make test`; each sets up .venv when there is none.
PYTHON ?= python3
BIN := .venv/bin
# Processes that share the test files: the default run takes 6:38 on two cores; in one it took twice as long (measured).
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: setup demo test test-slow test-crash test-browser test-cluster check bench bench-ingest bench-query bench-features docs pictures clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[cpu,train,dev]'
	touch $@

# Threads that do not spin while they wait: a training step of the demo's size makes 55 samples/s on two quiet cores
# (44 on one thread, 69 spinning), and 28 where something else runs on them, where two that spin make 2.5 (measured).
demo: setup  ## the main job on the shipped corpus: ingest, query, latents, fit, evaluate, generate
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pipelines demo

test: check  ## everything a change must pass, under eight minutes on two cores
	$(PYTEST)

test-slow: setup  ## the longer proof, also run by CI
	$(PYTEST) -m slow

test-crash: setup  ## a store whose writer is killed, or whose power is cut, at every step; also run by CI
	$(PYTEST) -m crash

test-browser: setup  ## the pages in Debian's chromium, by selenium; also run by CI
	$(PYTEST) -m browser -n 1

test-cluster: setup  ## a real Ray cluster of two nodes, and a real S3 server, killed and cut; also run by CI
	$(PYTEST) -m cluster

check: setup  ## format, lint, types, house, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py tests/test_cli_help.py

docs: setup  ## write docs/cli.md and docs/config.md anew from the code
	$(BIN)/python -m docs.cli
	$(BIN)/python -m docs.config

pictures: setup  ## docs/pictures/ of the pages anew, in Debian's chromium
	for name in pictures pictures_web pictures_report pictures_fit; do $(BIN)/python -m docs.$$name || exit 1; done

bench: setup  ## every measurement that needs nothing but this machine; about half an hour
	for name in startup decode rerun fit ingest; do $(BIN)/python benchmarks/$$name.py || exit 1; done

bench-ingest: setup  ## what an ingest keeps of the model's and the machine's speed, and whether it stays so
	$(BIN)/python benchmarks/ingest.py

bench-query: setup  ## questions to 600,000 and 5,000,000 rows against plain DuckDB; makes 4 GB of stores once, in PFG_BENCH_CACHE
	$(BIN)/python benchmarks/query.py

bench-features: setup  ## what pfgdata features keeps of the bare extractor's speed
	$(BIN)/python benchmarks/features.py

clean:  ## what make made, but .venv
	rm -rf demo-out .mypy_cache .ruff_cache .pytest_cache build *.egg-info
