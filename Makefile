# SPDX-License-Identifier: MIT
# make            builds build/sluiced, build/sluice, build/libsluice.{a,so}
# make run        sets up, builds, starts the daemon on the bundled model, asks it a question
# make test       sets up, builds, runs every check that needs no special machine
# make help       the other targets
#
# Variables: O=dir (default build), DEBUG=1 (-O1 -g, assertions), SAN=address,undefined or
# SAN=thread (own build directory), CC, SHARED=../shared (files that tests use).

SAN ?=
DEBUG ?=
comma := ,
O ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(DEBUG),-debug)
SHARED ?= ../shared
ifeq ($(origin CC),default)
CC := gcc
endif
PYTHON ?= /usr/bin/python3
RELEASE := $(shell cat VERSION)
VERSION := $(shell scripts/version.sh)

WARN := -Wall -Wextra -Wshadow -Wvla -Wwrite-strings -Wmissing-prototypes -Wno-unused-parameter
OPT := $(if $(DEBUG),-O1 -g,-O3 -g1) $(if $(SAN),-O1 -g -fsanitize=$(SAN) -fno-omit-frame-pointer)
OPT += $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
CFLAGS += -std=gnu11 $(WARN) $(if $(WERROR),-Werror) $(OPT) -ffp-contract=off -fno-math-errno \
	$(CPPFLAGS) -pthread -fPIC -D_GNU_SOURCE -I. -Idaemon -MMD -MP
LDFLAGS += -pthread $(if $(SAN),-fsanitize=$(SAN))
CUDA_HOME ?= /usr/local/cuda
ifeq ($(DEVICE_CUDA),emu)
CFLAGS += -DSLUICE_CUDA -Itests/gpu/emu/include -DREGISTER_PIECE='(1ull << 20)'
EMU_FLAVOUR := $(if $(findstring thread,$(SAN)),tsan,$(if $(SAN),san,fast))
DEVICE_NEEDS := $(O)/gpu/$(EMU_FLAVOUR)/kernels.a $(O)/gpu/$(EMU_FLAVOUR)/shim.a
DEVICE_LIBS := $(O)/gpu/$(EMU_FLAVOUR)/kernels.a -Wl,--whole-archive $(O)/gpu/$(EMU_FLAVOUR)/shim.a -Wl,--no-whole-archive -lstdc++
else ifneq ($(DEVICE_CUDA),)
CFLAGS += -DSLUICE_CUDA -I$(CUDA_HOME)/include
DEVICE_NEEDS := $(O)/libsluice_cuda.a
DEVICE_LIBS := $(O)/libsluice_cuda.a -L$(CUDA_HOME)/lib64 -lcudart_static -lrt -ldl -lstdc++
endif
LIBS := -luring -lnuma -lpcre2-8 -ljansson -ljson-c -lm
LIBS_serve := -lmicrohttpd -linih
LIBS_tools := -ledit

# Rooms in layer order: a room may use those to its left (docs/architecture.md; make check-layers holds it).
ROOMS := base kernels model chat grammar device telemetry metrics store policy trace engine plan serve
SRC_base := $(filter-out base/version.c,$(wildcard base/*.c))
SRC_kernels := $(wildcard kernels/*.c kernels/cpu/*.c)
SRC_model := $(wildcard daemon/model/*.c daemon/model/arch/*.c)
SRC_chat := $(wildcard daemon/chat/*.c)
SRC_grammar := $(wildcard daemon/grammar/*.c)
# With kernels: DEVICE_CUDA=1 over NVIDIA's runtime (nvcc), DEVICE_CUDA=emu over the fake one of tests/gpu/emu.
SRC_device := $(filter-out $(if $(DEVICE_CUDA),,daemon/device/cuda%.c),$(wildcard daemon/device/*.c))
SRC_telemetry := $(wildcard daemon/telemetry/*.c)
SRC_metrics := $(wildcard daemon/metrics/*.c)
SRC_store := $(wildcard daemon/store/*.c)
SRC_policy := $(wildcard daemon/policy/*.c)
SRC_trace := $(wildcard daemon/trace/*.c)
SRC_engine := $(wildcard daemon/engine/*.c daemon/engine/block/*.c)
SRC_plan := $(wildcard daemon/plan/*.c)
SRC_serve := $(wildcard daemon/serve/*.c)
SRC_tools := $(wildcard tools/*.c)
SRC_lib := $(wildcard uapi/*.c)

ifneq ($(shell $(CC) -dumpmachine 2>/dev/null | grep -c x86_64),1)
SRC_kernels := $(filter-out %_avx2.c %_avx512.c %_vbmi.c,$(SRC_kernels))
endif

obj = $(patsubst %.c,$(O)/obj/%.o,$(1))
lib = $(O)/lib/lib$(1).a

# room -> archives it links with, itself first (right to left)
upto = $(if $(filter $(1),$(ROOMS)),$(call upto_,$(1),$(ROOMS)))
upto_ = $(if $(filter $(1),$(firstword $(2))),$(firstword $(2)),$(call upto_,$(1),$(wordlist 2,99,$(2))) $(firstword $(2)))
archives = $(foreach r,$(call upto,$(1)),$(call lib,$(r)))
# The engine links policy and store, which do not know each other; one group keeps ld happy.
group = -Wl,--start-group $(1) -Wl,--end-group

.DEFAULT_GOAL := all
include packaging/install.mk

.PHONY: all
all: $(O)/sluiced $(O)/sluice $(O)/libsluice.a $(O)/libsluice.so
	@:

$(O)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS) $(ISA) -c -o $@ $<

# The version changes with every commit: it is an object of its own, made anew only when the text differs, and
# no program but the two that print it waits for it.
VERSION_OBJ := $(O)/obj/base/version.o
$(O)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@
$(VERSION_OBJ): CPPFLAGS += -DSLUICE_VERSION='"$(VERSION)"'
$(VERSION_OBJ): $(O)/version

# the page that the daemon serves is part of it
$(O)/obj/daemon/serve/http_page.o: $(wildcard daemon/serve/page/*)

# Kernels of vectors under UBSan: what it checks of each load by its address (null, alignment, the object's end) makes their code four times
# as long and a minute of compiling a file; what lies outside an object is AddressSanitizer's to find there. Shifts and overflows stay checked.
ISA_SAN := $(if $(findstring undefined,$(SAN)),-fno-sanitize=null$(comma)alignment$(comma)object-size$(comma)pointer-overflow)
$(O)/obj/%_avx2.o: ISA := -mavx2 -mfma -mf16c -mbmi2 $(ISA_SAN)
# These are bound by how far a core looks ahead: scheduled before registers are given out they take 4 to 12 % less. (K formats take more.)
SCHED := $(shell $(CC) -fschedule-insns -fsched-pressure -Werror -S -o /dev/null -x c /dev/null 2>/dev/null && echo -fschedule-insns -fsched-pressure)
$(addprefix $(O)/obj/kernels/cpu/,side_b_avx2.o side_xs_avx2.o few_b_avx2.o matmul_tq_avx2.o): ISA += $(SCHED)
ISA_512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c -mbmi2 $(ISA_SAN)
$(O)/obj/%_avx512.o: ISA := $(ISA_512)
$(O)/obj/%_vbmi.o: ISA := $(ISA_512) -mavx512vbmi
$(addprefix $(O)/obj/kernels/cpu/,rows_b_avx512.o rows_b_vbmi.o few_b_avx512.o tq_rows_avx512.o iq2_rows_vbmi.o few_tq_vbmi.o): ISA += $(SCHED)

define room_rule
$(call lib,$(1)): $(call obj,$(SRC_$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	@$(AR) rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

# libsluice tells daemon and clients alike where the socket is.
$(O)/sluiced: $(O)/obj/daemon/main.o $(VERSION_OBJ) $(O)/libsluice.a $(call archives,serve) $(DEVICE_NEEDS)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS) -o $@ $< $(VERSION_OBJ) $(O)/libsluice.a $(call group,$(call archives,serve)) $(DEVICE_LIBS) $(LIBS_serve) $(LIBS)

# The daemon with one file in another version: tests/device/faults.py puts faults in.
.PHONY: fault-program
fault-program: $(O)/sluiced
	@$(CC) $(CFLAGS) -Wno-error -iquote $(dir $(FAULT_FROM)) -c -o $(FAULT_TO).o $(FAULT)
	@$(CC) $(LDFLAGS) -o $(FAULT_TO) $(O)/obj/daemon/main.o $(VERSION_OBJ) $(FAULT_TO).o $(O)/libsluice.a \
		$(call group,$(call archives,serve)) $(DEVICE_LIBS) $(LIBS_serve) $(LIBS)

# The tool works on files and plans alone: never serve; of the engine only what the plan counts with.
$(O)/sluice: $(call obj,$(SRC_tools)) $(VERSION_OBJ) $(O)/libsluice.a $(call archives,plan) $(DEVICE_NEEDS)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS) -o $@ $(call obj,$(SRC_tools)) $(VERSION_OBJ) $(O)/libsluice.a \
		$(call group,$(call archives,plan)) $(DEVICE_LIBS) $(LIBS_tools) $(LIBS)

$(O)/libsluice.a: $(call obj,$(SRC_lib))
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^

$(O)/libsluice.so: $(call obj,$(SRC_lib)) uapi/libsluice.map
	@$(CC) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,--version-script,uapi/libsluice.map \
		-o $@ $(filter %.o,$^)

$(O)/example_%: examples/%.c $(O)/libsluice.a $(HEADERS:%=$(O)/include/sluice/%)
	@$(CC) $(CFLAGS) -I$(O)/include $(LDFLAGS) -o $@ $< $(O)/libsluice.a

# tests/unit/<room>/test_x.c links that room and those to its left.
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT := $(patsubst tests/unit/%.c,$(O)/tests/%,$(UNIT_SRC))
.SECONDEXPANSION:
$(O)/tests/%: tests/unit/%.c $$(call archives,$$(firstword $$(subst /, ,$$*))) | $(VERSION_OBJ)
	@mkdir -p $(@D)
	@echo "  TEST    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(VERSION_OBJ) $(call group,$(filter %.a,$^)) -lcmocka $(LIBS)

# One test program on each processor; not so what changes the pool of huge pages, nor what
# counts how threads spin (tests/run.sh).
TEST_JOBS ?= $(shell nproc)
.PHONY: unit
unit: $(UNIT)
	@SHARED=$(SHARED) TEST_JOBS=$(TEST_JOBS) TEST_ALONE="test_arena test_team" tests/run.sh $(UNIT)

# tests/bench/*.c: programs that measure; each says what at its top.
BENCH := $(patsubst tests/bench/%.c,$(O)/bench/%,$(wildcard tests/bench/*.c))
$(O)/bench/%: tests/bench/%.c $(call archives,trace)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(call group,$(call archives,trace)) $(LIBS)

.PHONY: bench-programs
bench-programs: $(BENCH)

# ---- what a reader looks for first; tests and checks: tests/targets.mk, installing: packaging/install.mk
MODEL ?= models/demo-moe-q4_k_m.gguf
PROMPT ?= What is the capital of France?
FORM ?= chat
.PHONY: run help
# setup-build+test: several groups of scripts/packages.txt at once, so that who may not install is told once
setup-%:
	@scripts/setup.sh $(subst +, ,$*)

run: setup-build
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@scripts/run.sh $(O) '$(subst ','\'',$(MODEL))' '$(subst ','\'',$(PROMPT))' $(FORM)

help:
	@sed -n '2,8p' Makefile | cut -c3-
	@echo "make install    installs in PREFIX=/usr/local (DESTDIR=dir before it); make uninstall removes it"
	@echo "make man        manual pages in $(O)/man; make completion: for bash and zsh, in $(O)/completion"
	@echo "make deb        Debian packages in $(O)/deb; make deb-kmod: that of the kernel module"
	@echo "make test-deb, test-install-roots    packages and installation in clean systems, as root, with network"
	@echo "make test-service-guest    the packages' units started by systemd in a guest under QEMU, as root"
	@echo "make kmod       the kernel module, KDIR=...; make cuda: the CUDA kernels, with nvcc"
	@echo "Other targets: unit, e2e, check-layers, check-format, bench-programs, bench-compare, fuzz, clean"

# ---- kernel module
# make kmod KDIR=/usr/src/linux-headers-... [W=1] [SEED=uaf|lock|leak]: $(O)/kmod/<release>/sluice.ko (docs/kmod.md)
KDIR ?= /lib/modules/$(shell uname -r)/build
.PHONY: kmod
kmod:
	@SEED=$(SEED) kmod/build.sh '$(KDIR)' $(O)/kmod $(if $(W),W=$(W))

# ---- CUDA kernels
# make cuda: every kernels/cuda/*.cu for all targets into $(O)/libsluice_cuda.a; needs nvcc
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
# Machine code of each target, assembled from two translations: no kernel asks which target it is for. The
# PTX is the oldest, so that a GPU newer than all of them can still take it.
CUDA_CODE := '-gencode=arch=compute_80,code=[compute_80,sm_80,sm_86,sm_89,sm_90]' \
	'-gencode=arch=compute_100,code=[sm_100,sm_120]'
CUDA_FLAGS := -std=c++17 -O3 -fmad=false -I. -Xcompiler -Wall,-Wno-unused-function,-fPIC $(CUDA_CODE)
CUDA_SRC := $(wildcard kernels/cuda/*.cu)
.PHONY: need-nvcc cuda
need-nvcc:
	@test -n "$(NVCC)" || { echo "CUDA kernels need nvcc (CUDA 13), which is not on this machine"; exit 1; }
cuda: need-nvcc
	@$(MAKE) --no-print-directory -j2 $(O)/libsluice_cuda.a
$(O)/libsluice_cuda.a: $(patsubst kernels/cuda/%.cu,$(O)/gpu/cuda/%.o,$(CUDA_SRC))
	@rm -f $@
	@$(AR) rcs $@ $^
$(O)/gpu/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC    $<"
	@$(NVCC) $(CUDA_FLAGS) -MD -MP -MF $(@:.o=.d) -c -o $@ $<

.PHONY: clean
clean:
	rm -rf $(O)

include tests/targets.mk

-include $(shell find $(O) -path $(O)/kernels -prune -o -path $(O)/deb -prune -o -type f -name '*.d' -print 2>/dev/null)
