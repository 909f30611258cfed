# make book: the pages.  make test: every check.  make serve: the pages at localhost.  make lab: the chapters, live.  make clean
# Outside CI: make test-gpu: on a GPU.  make test-chapters: Run All in each chapter.  make test-compat: oldest versions, other Pythons (gigabytes).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: book test test-gpu test-chapters test-compat browser serve lab clean
BIN := .venv/bin
READY := .venv/.ready
writable = [ -w . ] || { echo "this folder cannot be written to: copy the checkout to one that can" >&2; exit 1; }

# A failed build is forgotten, since the next one would not repeat the warnings of pages that did not change.
book: $(READY)
	@$(writable)
	@"$(BIN)"/jupyter-book build . -W --keep-going || { rm -rf _build/.doctrees; exit 1; }
	@"$(BIN)"/python -c 'import pathlib; print("Open", pathlib.Path("_build/html/index.html").resolve().as_uri())'

test: $(READY) browser
	@$(writable)
	"$(BIN)"/ruff check .
	"$(BIN)"/ruff format --check .
	"$(BIN)"/mypy
	"$(BIN)"/lint-imports
	"$(BIN)"/python -m bnlib verify
	"$(BIN)"/python -m bnlib claims
	"$(BIN)"/pytest -n 2 --dist loadfile

# Without the checks of types and shapes, which the compiler cannot see through.
test-gpu: $(READY)
	"$(BIN)"/pytest -m gpu -o addopts=--strict-markers -W "ignore:The .grad attribute"

test-chapters: $(READY)
	"$(BIN)"/pytest -m chapters -n 2 tests/test_chapters.py

test-compat: $(READY)
	"$(BIN)"/python tests/compat.py

serve: book
	"$(BIN)"/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lab: $(READY)
	"$(BIN)"/jupyter-lab book/index.ipynb

clean:
	rm -rf _build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +

# As root on Debian, what the machine lacks is installed; elsewhere it is named.
debian = { [ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -q && apt-get install -qy --no-install-recommends $(1); } > /dev/null
find-python = for p in python3 python3.13 python3.12 python3.11; do "$$p" -c 'import ensurepip, sys; assert (3, 11) <= sys.version_info < (3, 14)' 2> /dev/null && echo "$$p" && break; done

$(READY): requirements.txt pyproject.toml setup.py
	@$(writable)
	@command -v git > /dev/null || $(call debian,git) || { echo "git is missing: install it" >&2; exit 1; }
	@[ -n "$$($(find-python))" ] || $(call debian,python3 python3-venv) || true
	@[ -n "$$($(find-python))" ] || { echo "Python 3.11 to 3.13 with venv is missing: install it (on Debian: apt install python3-venv)" >&2; exit 1; }
	@"$(BIN)"/python -c "" 2> /dev/null || "$$($(find-python))" -m venv --clear .venv
	"$(BIN)"/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

browser: $(READY)
	@PYTHONPATH=tests "$(BIN)"/python -c 'import browser, sys; sys.exit(browser.find_chrome() is None)' || $(call debian,chromium) \
	|| "$(BIN)"/playwright install chromium || { echo "no browser: install Chromium, or name one in CHROME" >&2; exit 1; }
