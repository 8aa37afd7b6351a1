# Nothing but python3, make and pip is assumed; everything else goes into .venv, once.
PYTHON ?= python3
BIN := .venv/bin
# The environment is locked: neither the caller's Python settings nor pip's may change it.
unexport PYTHONPATH PYTHONHOME
# Where bytecode may not be kept, each process compiles what it imports: TensorFlow's takes 9 s.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONNOUSERSITE := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
# ONNX Runtime would write to the home folder and send what it counts.
export ORT_DISABLE_TELEMETRY := 1
# mkdocs-material would announce its successor at each build.
export NO_MKDOCS_2_WARNING := 1
CHECKOV := 3.3.30
PIP_AUDIT := 2.10.1
# Files of tests that run at once, each with servers of its own: one more than two cores, as all wait now and then.
JOBS ?= 3

.PHONY: help demo up down test test-system coverage images chart-run chart-test chart-snapshots chart-audit check \
  docs format train evaluate compare bench gpu-pack lock lock-images release sbom audit clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: .venv/.stamp ## the whole way, for one exposure: IMAGE=file.fits scores your own, OUT=folder keeps the answer
	@$(BIN)/astrotriton demo $(if $(IMAGE),--image "$(IMAGE)") $(if $(OUT),--out "$(OUT)")

up: .venv/.stamp ## start every server and keep it serving
	@$(BIN)/astrotriton up

down: .venv/.stamp ## stop what `make up` started
	@$(BIN)/astrotriton down

test: .venv/.compiled ## the tests, on the real servers, in ten minutes; JOBS=3 at once, ARGS= goes to pytest
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-system: .venv/.compiled ## the tests that take long: GROUP=faults runs one group (tests/README.md)
	@$(BIN)/pytest -m "$(or $(GROUP),system and not long and not containers)" $(ARGS)

coverage: .venv/.stamp ## the tests of `make test` with one line of coverage a room; SYSTEM=1 adds the long ones
	@$(BIN)/python -m tests.coverage_by_room $(if $(SYSTEM),-m "not long") $(ARGS)

images: .venv/.stamp ## build the container images with Podman, as root: TARGET=gateway builds one
	@$(BIN)/python -m containers.build $(TARGET)

chart-run: .venv/.stamp ## run the chart in pods of Podman, as root: promoted, upgraded, rolled back, hurt, under load
	@$(BIN)/pytest -m containers tests/integration/test_chart_run.py -s $(ARGS)

chart-test: .venv/.compiled ## the tests of the Helm chart, with Helm's own engine
	@$(BIN)/pytest -m "chart or not chart" tests/chart tests/integration/test_chart.py $(ARGS)

chart-snapshots: .venv/.stamp ## make the chart's README, schema of settings and snapshots anew
	@$(BIN)/python -m tests.chart.refresh

chart-audit: .venv/.stamp ## checkov over every scenario; it comes in an environment of its own
	@$(BIN)/uvx checkov@$(CHECKOV) --config-file helm/checkov.yaml
	@$(BIN)/uvx checkov@$(CHECKOV) --file Dockerfile --framework dockerfile --compact --quiet --skip-download \
	  --skip-check CKV_DOCKER_2,CKV_DOCKER_7

check: .venv/.stamp ## lint, format, types, what may import what, and the documents as a site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mkdocs build --strict --quiet

docs: .venv/.stamp ## the documents as a site, in site/; fails on any broken link
	$(BIN)/python -m mkdocs build --strict

format: .venv/.stamp ## put the sources into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: .venv/.stamp ## train the reference U-Net anew, about half an hour on two cores
	@$(BIN)/astrotriton train

evaluate: .venv/.stamp ## measure the reference U-Net: SEED= chooses other fields, OUT=folder keeps the figures
	@$(BIN)/astrotriton evaluate $(if $(SEED),--seed "$(SEED)") $(if $(OUT),--out "$(OUT)")

compare: .venv/.stamp ## networks on real alerts, beside the surveys' scores: STAMPS=folder, OUT=folder keeps table and figure
	@$(BIN)/python -m benchmarks.compare $(or $(STAMPS),../shared/data/stamps) $(if $(OUT),--out "$(OUT)") $(ARGS)

bench: .venv/.stamp ## measure speed beside other servers: QUICK=1 is shorter, OUT=folder keeps the figures
	@$(BIN)/python -m benchmarks.speed $(if $(QUICK),--quick) $(if $(OUT),--out "$(OUT)") $(ARGS)

gpu-pack: .venv/.stamp ## pack benchmarks/gpu for a machine with a GPU: PYTHON_VERSION=3.12, PACK=folder, ONLY=bundle
	@$(BIN)/python -m benchmarks.gpu.pack $(if $(PYTHON_VERSION),--python "$(PYTHON_VERSION)") \
	  $(if $(PACK),--out "$(PACK)") $(if $(ONLY),--only "$(ONLY)")

lock: .venv/.stamp ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-emit-index-url --no-header --upgrade -q -o requirements.lock
	echo 'uv' | $(BIN)/uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-emit-index-url --no-header --upgrade -q -o bootstrap.lock
	@$(MAKE) --no-print-directory lock-images

IMAGE_LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 -c requirements.lock \
  --generate-hashes --no-annotate --no-emit-index-url --no-header -q
# Litestar makes examples with Faker for those who ask for them; nobody does.
WORKER = --extra telemetry --extra tracking --extra drift
lock-images: ## the part of requirements.lock that each image is made from
	echo 'mlflow-skinny' | $(IMAGE_LOCK) pyproject.toml - --extra server --extra telemetry \
	  --no-emit-package faker --no-emit-package polyfactory -o requirements/gateway.lock
	$(IMAGE_LOCK) pyproject.toml --extra server $(WORKER) -o requirements/worker.lock
	$(IMAGE_LOCK) pyproject.toml --extra server $(WORKER) --extra training --extra keras2 \
	  --extra servers --group triton -o requirements/export.lock
	printf 'numpy\nonnx\nonnxruntime\nnvidia-pytriton\n' | $(IMAGE_LOCK) - -o requirements/triton-cpu.lock
	echo 'hatchling' | $(IMAGE_LOCK) - -o requirements/build.lock

release: .venv/.stamp ## build wheel, source distribution and chart of this commit into dist/, with provenance; ARGS= as release/ takes them
	@$(BIN)/python -m release build $(ARGS)

sbom: .venv/.stamp ## list what is in each image, with licences, into dist/ (CycloneDX)
	@$(BIN)/python -m release sbom $(ARGS)

audit: .venv/.stamp ## ask PyPI whether a package of the images has a known weakness
	@$(BIN)/uvx pip-audit@$(PIP_AUDIT) --strict --disable-pip --require-hashes \
	  -r requirements/gateway.lock -r requirements/export.lock -r requirements/triton-cpu.lock -r requirements/build.lock

# Once for all: what each of several tests would compile beside the others.
.venv/.compiled: .venv/.stamp $(wildcard astrotriton/detection/*.py astrotriton/detection/*/*.py)
	@$(BIN)/python -c "from astrotriton.detection.warmup import warm_up; warm_up()"
	@touch $@

clean: ## remove the environment; the data in var/ stay
	rm -rf .venv

.venv/.stamp: requirements.lock bootstrap.lock pyproject.toml
	@echo "making the environment in .venv (once; a minute or two)"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r bootstrap.lock
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
