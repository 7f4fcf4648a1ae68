# `make demo`, `make check` and `make test` do all their own set-up, into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.bench-installed
# Files and folders, but not the links to folders: a folder's time changes with every __pycache__ in it.
PACKAGED := cli ingest serve shards examples simshard/*.py simshard/py.typed

.PHONY: demo check test lint web bench lock wheel wheelhouse cluster-test clean

demo: $(INSTALLED)
	$(BIN)/simshard demo

# Without what takes long or starts Ray, hosts or a browser: in two minutes on two cores.
check: lint
	$(BIN)/python -m pytest --ignore=tests/system -m "not slow"

test: lint
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p simshard

# The page, from serve/web to serve/static, which is committed so that only who changes it needs Node.
web:
	cd serve/web && npm ci --no-audit --no-fund && npm run check && npm test && npm run build

bench: $(BENCH_INSTALLED)
	@command -v wrk > /dev/null || { echo "make bench needs wrk (Debian: apt-get install wrk; macOS: brew install wrk)" >&2; exit 1; }
	$(BIN)/python -m benchmarks.run $(if $(CATALOGUE),--catalogue '$(CATALOGUE)')

$(BENCH_INSTALLED): $(INSTALLED) benchmarks/requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement benchmarks/requirements.lock
	@touch $@

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Every platform's and Python's packages in one file, by hash, without addresses.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --upgrade --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra bench --constraint requirements.lock --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file benchmarks/requirements.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --constraint requirements.lock --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file deploy/requirements.lock pyproject.toml

wheel: $(INSTALLED)
	rm -rf build/lib
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

# All that `pip install --no-index --find-links wheelhouse simshard` needs, for machines without internet: see cluster.yaml.
wheelhouse: wheelhouse/.made

wheelhouse/.made: $(INSTALLED) deploy/requirements.lock $(shell git ls-files $(PACKAGED) 2>/dev/null)
	rm -rf wheelhouse build/lib
	mkdir -p build
	$(BIN)/python -m pip download --quiet --require-hashes --only-binary :all: --dest wheelhouse \
	  --requirement deploy/requirements.lock
	$(BIN)/python -m build --wheel --no-isolation --outdir wheelhouse > build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
	@touch $@

# docs/deploy.md on three hosts out of network namespaces: needs root, iproute2, openssh-server and rsync.
cluster-test: wheelhouse
	$(BIN)/python -m tests.support.cluster_run $(if $(PREPARED),--prepared,--runs 5 --to benchmarks/results/cluster.json)

clean:
	rm -rf .venv build dist wheelhouse *.egg-info serve/web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
