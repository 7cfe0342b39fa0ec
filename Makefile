# Two commands for newcomers: `make bench` and `make test`. Both install into .venv/ if needed.
# Other dependencies: CONSTRAINTS=/dev/null takes the newest, CONSTRAINTS=constraints-oldest.txt the oldest declared.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RAY := .venv-ray

.PHONY: bench paper test lint types check coverage perf slow fuzz test-cluster gpu-rehearsal clean
bench: $(STAMP)
	$(BIN)/python bench/run.py -m page_size=4,16,64

paper: $(STAMP) # the PagedAttention paper's figures and claims, without a GPU
	$(BIN)/python scripts/paper.py

test: lint types check

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/lint_prose.py --strict

types: $(STAMP)
	$(BIN)/mypy

check: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

coverage: $(STAMP) # of the test process itself, not of the processes of points
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-report=html

perf: $(STAMP) # benchmarks: ratios within one run
	$(BIN)/python -m pytest -m perf -s -p no:xdist

slow: $(STAMP) # long proofs
	$(BIN)/python -m pytest -m slow

fuzz: $(STAMP) # random bad input, one reader after the other
	$(BIN)/python -m pytest -m fuzz --hypothesis-profile=fuzz --timeout=0

test-cluster: $(STAMP) $(RAY)/.installed # launchers; Slurm itself is Debian's slurm-wlm and munge
	$(BIN)/python -m pip install --quiet --editable '.[joblib,submitit]' --constraint constraints.txt
	$(BIN)/python -m pytest -m cluster -p no:xdist
	$(RAY)/bin/python -m pytest -m cluster -p no:xdist tests/cluster/test_ray.py

# boto3, which Ray's launcher needs, takes no python-dateutil 3: pip would try every boto3 there is.
$(RAY)/.installed: pyproject.toml constraints.txt
	test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	grep -v '^python-dateutil' constraints.txt > $(RAY)/constraints.txt
	$(RAY)/bin/python -m pip install --quiet --editable '.[dev,ray]' --constraint $(RAY)/constraints.txt
	touch $@

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint $(CONSTRAINTS)
	touch $@

gpu-rehearsal: $(STAMP) # a visit to a GPU, in small form on a CPU: docs/gpu_visit.md
	$(BIN)/python scripts/gpu_rehearsal.py

clean:
	rm -rf $(VENV) $(RAY)
