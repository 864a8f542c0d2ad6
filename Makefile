# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Two cores with torch's thread pool on top spin against each other; one thread a process is both faster and repeatable.
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test lint bench clean
install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "[unstuck] making $(VENV)/ and installing the package with its development tools (about a minute, 1 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
	@echo "[unstuck] installed: $$($(BIN)/unstuck --version)"

demo: install
	@echo "[unstuck] a real training whose loss does not move, under 'unstuck run':"
	@echo "[unstuck] \$$ cd gallery/demo; unstuck run train.py --epochs 3"
	@cd gallery/demo && ../../$(BIN)/unstuck run --trace ../../.unstuck/demo train.py --epochs 3

test: install
	@echo "[unstuck] style, then all tests (unit, gallery, slow ones included), two processes"
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: install
	@$(BIN)/ruff check src tests benchmarks

bench: install
	@$(BIN)/python benchmarks/detection.py
	@$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf $(VENV) .unstuck .pytest_cache .hypothesis .ruff_cache
