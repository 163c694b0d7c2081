# make demo and make test set everything up by themselves; they need Python 3.11 or 3.12.
# PYTHON=/path/to/python names the interpreter, ARGS="..." goes to pytest, JOBS=0 runs it alone.

PY := .venv/bin/python
RUN := .venv/.installed-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
DEV := .venv/.installed-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)-dev
ARGS ?=
# Test processes side by side; each keeps whole files, so that their fixtures are made once.
JOBS ?= 2
OUT := demo-output
DEMO_SYNC := --sync-weights weights/demo_sync.safetensors

export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean

help:
	@echo "make setup   virtual environment in .venv with the pinned packages (about 7 GB)"
	@echo "make demo    make talking faces, extract, damage them, train, measure, score (offline)"
	@echo "make test    all tests; ARGS=\"tests/model -x\" selects"
	@echo "make check   ruff, ruff format, mypy"
	@echo "make bench   benchmarks that are run by hand"
	@echo "make clean   remove caches and $(OUT)/; .venv stays"

$(RUN):
	@sh .ci/setup $@ requirements.txt

$(DEV): | $(RUN)
	@sh .ci/setup $@ requirements-dev.txt

setup: $(RUN)
	@echo "ready: . .venv/bin/activate"

demo: $(RUN)
	@echo "== 1/9  making talking faces in $(OUT)/corpus"
	@$(PY) jobs/demo_corpus.py --out $(OUT)/corpus --seconds 3
	@echo "== 2/9  extracting four modalities and sync of them into $(OUT)/features"
	@$(PY) jobs/extract.py --corpus $(OUT)/corpus/manifest.csv --out $(OUT)/features --weights seeded $(DEMO_SYNC)
	@echo "== 3/9  what is in $(OUT)/features"
	@$(PY) jobs/extract.py --inspect $(OUT)/features
	@echo "== 4/9  damaging them in known ways: $(OUT)/damaged (virtual: the damage is done at decode)"
	@$(PY) jobs/degrade.py --corpus $(OUT)/corpus/manifest.csv --out $(OUT)/damaged --virtual --plan configs/degrade/demo.yaml
	@echo "== 5/9  extracting what needs no backbone of the damaged ones into $(OUT)/damaged-features"
	@$(PY) jobs/extract.py --corpus $(OUT)/damaged/manifest.parquet --out $(OUT)/damaged-features \
		--modalities action_units,sync,lowlevel,descriptors $(DEMO_SYNC)
	@echo "== 6/9  training a small evaluator in $(OUT)/training; it is tested on a speaker it has not seen"
	@$(PY) jobs/train.py --preset demo --features $(OUT)/damaged-features --labels $(OUT)/damaged/labels.csv \
		--split-column split --out $(OUT)/training
	@echo "== 7/9  measuring it by that speaker's known damage in $(OUT)/ruler"
	@$(PY) jobs/benchmark.py --corpus $(OUT)/damaged --checkpoint $(OUT)/training --features $(OUT)/damaged-features --out $(OUT)/ruler
	@echo "== 8/9  making videos of three generators of known quality in $(OUT)/generated"
	@$(PY) jobs/demo_corpus.py --generators --out $(OUT)/generated
	@echo "== 9/9  scoring them into $(OUT)/scores, as every night"
	@$(PY) jobs/score.py --corpus $(OUT)/generated/manifest.csv --checkpoint $(OUT)/training --out $(OUT)/scores $(DEMO_SYNC)
	@echo
	@echo "Done, without network. Look in a browser at"
	@echo "  $(OUT)/scores/report/report.html   the generators: faithful, hasty and broken, by construction in this order"
	@echo "  $(OUT)/ruler/report.html           which damage the evaluator sees, and which it does not"
	@echo "  $(OUT)/training/report.html        how the evaluator was trained"
	@echo "Videos: $(OUT)/corpus. What is done to them, and labels: $(OUT)/damaged. Features: $(OUT)/*features/features/*.parquet."
	@echo "The labels follow from the damage done, the weights of ResNet101 and HuBERT are seeded (random), and SyncNet's were"
	@echo "learned from made-up faces: the numbers show the machinery, not how people would judge."
	@echo "Run it again and what is done is skipped; start afresh with: make clean demo"

test: $(DEV)
	@$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=15 $(ARGS)

check: $(DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(RUN)
	@echo "Run by hand on a quiet machine; --help says more:"
	@for file in benchmarks/*.py; do [ -e "$$file" ] && echo "  $(PY) $$file"; done; true

clean:
	rm -rf $(OUT) .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +
