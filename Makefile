PYTHON ?= python3
BIN := .venv/bin

help:
	@echo "make demo            set up, create synthetic recordings, train, predict, score: about four minutes"
	@echo "make test            set up, check style and types, run the tests"
	@echo "make test-slow       the tests of more than a second, which train networks: about half an hour"
	@echo "make test-web        the tests in Chromium, which is installed if missing, and in Node: two minutes"
	@echo "make test-extras     install the package with each extra in an environment of its own, and use it there"
	@echo "make challenge-test  train on recordings with every defect, and predict with the Challenge's scripts"
	@echo "make docs            build the documentation into build/docs; a broken reference is an error"
	@echo "make bench           how fast each part is, against the machine's limits"
	@echo "make lock            update the lock files after a change of requirements.txt or requirements-dev.txt"
	@echo "make docker-test     build the image and use it as the Challenge's organisers do"
	@echo "make clean           remove what these made, the virtual environment too"

# The two sets of packages. Each is installed again only if its lock file changes.
.venv/installed: locks/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
		"Python 3.11, 3.12 or 3.13 is needed, for which TensorFlow is made: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r locks/cpu.txt
	@touch $@

.venv/installed-dev: .venv/installed locks/dev.txt
	$(BIN)/pip install --quiet --require-hashes -r locks/dev.txt
	@touch $@

# Write the lock files anew; see locks/README.md. The development lock holds all packages, so the others follow it.
# UPGRADE=--upgrade takes the newest versions of the packages that only others need.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config \
	--custom-compile-command "make lock" $(UPGRADE)

lock: .venv/installed-dev
	$(LOCK) requirements-dev.txt -o locks/dev.txt
	$(LOCK) requirements.txt -c locks/dev.txt -o locks/cpu.txt
	$(LOCK) locks/cuda.in -c locks/dev.txt -o locks/cuda.txt

# The log of the training lists the settings that are smaller than the default. 420 recordings are enough for both
# relabelling networks, and few enough for short epochs.
demo: .venv/installed
	rm -rf demo
	$(BIN)/python -m ecg synthesize demo/training --records 420 --seed 1
	$(BIN)/python -m ecg synthesize demo/test --records 160 --seed 2
	$(BIN)/python -m ecg synthesize demo/test_2_leads --records 160 --seed 2 --leads 2
	$(BIN)/python -m ecg train demo/training demo/model --epochs 6 --width 8
	$(BIN)/python test_model.py demo/model demo/test demo/outputs
	$(BIN)/python test_model.py demo/model demo/test_2_leads demo/outputs_2_leads
	@echo "Scores with 2 leads:"
	@$(BIN)/python evaluate_model.py demo/test_2_leads demo/outputs_2_leads
	@echo "Scores with 12 leads:"
	@$(BIN)/python evaluate_model.py demo/test demo/outputs
	@echo "The page of the training: demo/model/report/index.html"

test: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not web and not extras" -n 2 --dist loadfile --no-loadscope-reorder

# The whole way on 60 recordings with every defect, with stand-ins for the Challenge's scripts. docker-test trains with the
# default's number of epochs.
challenge-test: .venv/installed
	$(BIN)/python -m benchmarks.challenge --records 60 --test-records 60 --epochs 1

# The site, from docs/ and from the docstrings. Pages of modules that are gone must not stay.
docs: .venv/installed-dev
	rm -rf docs/api/modules
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -d build/doctrees docs build/docs
	@echo "The documentation: build/docs/index.html"

# SLOW=tests/unit runs only those of single modules, some three minutes.
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow -n 2 $(SLOW)

# The page in a browser. Debian's package needs no other download; elsewhere, install Chromium yourself. The examples in
# JavaScript need onnxruntime-web, too. Without it their tests are skipped.
test-web: .venv/installed-dev
	@$(MAKE) --silent build/node/installed \
		|| echo "make test-web skips the examples in JavaScript: npm, or what it fetches, is missing"
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null \
		|| command -v google-chrome > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
		&& apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium; } \
		|| { echo "make test-web needs the browser chromium or google-chrome: install one of them"; exit 1; }
	$(BIN)/python -m pytest -m web tests/web

# Fresh environments in build/extras. They hold links to the files in uv's cache, and so hardly need disk space.
test-extras: .venv/installed-dev
	$(BIN)/python -m pytest -m extras tests/extras

# No script of a package runs.
build/node/installed: docs/examples/package.json docs/examples/package-lock.json
	@command -v npm > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
		&& apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends nodejs npm; }
	mkdir -p build/node
	cp $^ build/node
	npm ci --prefix build/node --ignore-scripts --no-audit --no-fund
	@touch $@

# BENCH="store step --data FOLDER" measures these figures only, and on recordings of your own.
bench: .venv/installed
	$(BIN)/python -m benchmarks.speed $(BENCH)

# DOCKER_BUILD="--build-arg CUDA=0" leaves out the libraries for the GPU.
DOCKER_IMAGE := ecg-entry
DOCKER_DATA := $(CURDIR)/build/docker
DOCKER_RUN := docker run --rm -v $(DOCKER_DATA)/model:/physionet/model -v $(DOCKER_DATA)/test_data:/physionet/test_data \
	-v $(DOCKER_DATA)/test_outputs:/physionet/test_outputs -v $(DOCKER_DATA)/training_data:/physionet/training_data \
	$(DOCKER_IMAGE) bash -c

docker-test:
	docker build $(DOCKER_BUILD) -t $(DOCKER_IMAGE) .
	$(DOCKER_RUN) "rm -rf model/* test_data/* test_outputs/* training_data/*"
	$(DOCKER_RUN) "python -m ecg synthesize training_data --records 60 --seed 1 \
		&& for leads in 12 6 4 3 2; do python -m ecg synthesize test_data/\$$leads --records 12 --seed 2 --leads \$$leads; done"
	$(DOCKER_RUN) "python train_model.py training_data model && python test_model.py model test_data test_outputs"
	$(DOCKER_RUN) "python evaluate_model.py test_data test_outputs && rm -rf model/* test_data/* test_outputs/* training_data/*"

clean:
	rm -rf .venv build dist demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help lock demo test test-web test-extras docs challenge-test test-slow bench docker-test clean
