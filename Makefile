# Two targets do all the set-up on a machine that has just Python and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: install demo test test-clients lint bench soak vectors lock clean

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/python examples/recompile/demo.py

test: install
	$(BIN)/python -m pytest -n auto -m "not soak and not clients"

# Agents of others, from outside: openai-agents, litellm, the Codex CLI. In an environment of their own.
test-clients: install .venv-clients/installed
	$(BIN)/python -m pytest -n auto -m clients

.venv-clients/installed: pyproject.toml
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --upgrade pip
	.venv-clients/bin/python -m pip install --quiet --group clients
	npm install --silent --no-audit --no-fund --prefix .venv-clients @openai/codex
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m bench

# Long: fuzzing, every fault at every system call.
soak: install
	$(BIN)/python -m pytest -n auto -m soak

# After a change of format: docs/FORMAT.md and the vectors change together.
vectors: install
	$(BIN)/python -m tests.make_vectors

lock:
	$(PYTHON) -m pip install --quiet uv
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .venv-clients .pytest_cache .mypy_cache .ruff_cache
