# make demo   set up, export the shipped checkpoint, track the sample, write overlay, mesh and times
# make test   set up, lint, type-check, run every test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out

.PHONY: demo test fast lint format wheel clean

$(VENV)/.installed: pyproject.toml constraints.txt setup.py $(wildcard cmr_runtime/core/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,train,bench,test,view]'
	touch $@

demo: $(VENV)/.installed
	mkdir -p $(OUT)/demo
	$(BIN)/cmr-export --ckpt models/weights/hand.pt --detector models/weights/palm_detector.npz --out $(OUT)/hand.cmr
	$(BIN)/cmr-track examples/data/sample.jpg --camera examples/data/sample.json --model $(OUT)/hand.cmr --out $(OUT)/demo
	@echo "Look at $(OUT)/demo"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

fast: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m 'not slow'

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.installed
	CMR_RUNTIME_CORE=required $(BIN)/python -m build

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info cmr_runtime/_core*
