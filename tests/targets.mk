# SPDX-License-Identifier: MIT
# Targets beside the programs themselves. Included by the Makefile.

MODEL ?= models/demo-moe-q4_k_m.gguf
PROMPT ?= What is the capital of France?
FORM ?= chat

.PHONY: setup run test check-layers check-format e2e unit-san help

setup-%:
	@scripts/setup.sh $*

run: setup-build
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@scripts/run.sh $(O) '$(subst ','\'',$(MODEL))' '$(subst ','\'',$(PROMPT))' $(FORM)

check-layers:
	@scripts/check-layers.sh

check-format:
	@scripts/check-format.sh

e2e: all
	@BUILD=$(O) SHARED=$(SHARED) $(PYTHON) -m pytest -q -p no:cacheprovider tests/e2e $(PYTEST_ARGS)

# Everything that needs no special machine. Order: cheap checks first.
test: setup-build setup-test
	@$(MAKE) --no-print-directory WERROR=1 -j$$(nproc) all
	@$(MAKE) --no-print-directory check-layers check-format
	@$(MAKE) --no-print-directory WERROR=1 -j$$(nproc) unit-programs
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory SAN=address,undefined -j$$(nproc) unit-programs
	@$(MAKE) --no-print-directory SAN=address,undefined unit
	@$(MAKE) --no-print-directory SAN=address,undefined -j$$(nproc) all
	@$(MAKE) --no-print-directory e2e

.PHONY: unit-programs
unit-programs: $(UNIT)

help:
	@sed -n '2,8p' Makefile | cut -c3-
	@echo "Other targets: unit, e2e, check-layers, check-format, bench-programs, clean"
