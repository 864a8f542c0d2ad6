# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Two cores with torch's thread pool on top spin against each other; one thread a process is both faster and repeatable.
export OMP_NUM_THREADS ?= 1

KERAS  := .venv-keras
KERASBIN := $(KERAS)/bin
STACKS := .venv-stacks

.PHONY: install install-browser install-keras demo test test-torch test-keras install-stacks test-stacks lint docs bench clean
install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "[unstuck] making $(VENV)/ and installing the package with its development tools (about a minute, 1 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
	@echo "[unstuck] installed: $$($(BIN)/unstuck --version)"

# The HTML report is tested in a browser. Its driver has to be of the browser's version: both come from the same place.
install-browser:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "[unstuck] installing chromium and its driver (half a minute, 400 MB)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; \
	else \
		echo "[unstuck] the tests of the HTML report need chromium and chromedriver on the PATH; install them, on Debian with:" >&2; \
		echo "[unstuck]   sudo apt-get install chromium chromium-driver" >&2; exit 1; \
	fi

# Keras and its three backends live apart: importing TensorFlow slows everything else.
install-keras: $(KERAS)/.installed

$(KERAS)/.installed: pyproject.toml constraints.txt
	@echo "[unstuck] making $(KERAS)/ with Keras on TensorFlow, JAX and torch (two minutes, 2 GB)"
	@test -x $(KERASBIN)/python || $(PYTHON) -m venv $(KERAS)
	@$(KERASBIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(KERASBIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[keras-test]'
	@touch $(KERAS)/.installed

# Lightning and Hugging Face: not part of `make test`, which has to end in a quarter of an hour.
install-stacks: $(STACKS)/.installed

$(STACKS)/.installed: pyproject.toml constraints.txt
	@echo "[unstuck] making $(STACKS)/ with Lightning, transformers, accelerate and peft"
	@test -x $(STACKS)/bin/python || $(PYTHON) -m venv $(STACKS)
	@$(STACKS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(STACKS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt lightning transformers accelerate peft pytest -e .
	@touch $(STACKS)/.installed

test-stacks: install-stacks
	@$(STACKS)/bin/python -m pytest tests_frameworks/torch_stacks -q

demo: install
	@echo "[unstuck] a real training whose loss does not move, under 'unstuck run':"
	@echo "[unstuck] \$$ cd gallery/demo; unstuck run train.py"
	@cd gallery/demo && ../../$(BIN)/unstuck run --trace ../../.unstuck/demo train.py

test: test-torch test-keras

test-torch: install install-browser
	@echo "[unstuck] style, then all tests (unit, gallery, slow ones included), two processes"
	@$(BIN)/ruff check src tests tests_frameworks benchmarks docs
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-keras: install-keras
	@echo "[unstuck] Keras on its three backends"
	@$(KERASBIN)/python -m pytest tests_frameworks/keras -n 3 --dist loadgroup -q

lint: install
	@$(BIN)/ruff check src tests tests_frameworks benchmarks docs

docs: install
	@echo "[unstuck] building the documentation, strictly, and running its notebooks (a minute): build/site/"
	@NO_MKDOCS_2_WARNING=1 UNSTUCK_DOCS_RUN=1 $(BIN)/mkdocs build --quiet
	@echo "[unstuck] open build/site/index.html"

bench: install
	@$(BIN)/python benchmarks/detection.py
	@$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf $(VENV) $(KERAS) .unstuck .pytest_cache .hypothesis .ruff_cache
