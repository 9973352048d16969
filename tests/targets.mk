# SPDX-License-Identifier: MIT
# Tests, checks and benchmarks. Included by the Makefile.

PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider --confcutdir=tests

.PHONY: test check-layers check-format check-scripts e2e

check-layers:
	@$(PYTHON) scripts/check_layers.py

check-format:
	@scripts/check-format.sh

# what the checks themselves must find
check-scripts:
	@$(PYTEST) tests/scripts

# With E2E_JOBS=2, as make test does it, files of tests go side by side, each to one process (package python3-pytest-xdist), and then, one
# after the other, those that measure, that watch or change what all processes of a machine share, or that install from $(O).
E2E_JOBS ?= 1
E2E_ALONE := $(addprefix tests/e2e/test_,device_emu.py doctor.py faults.py http_abuse.py install.py limits.py manager.py native_form.py \
	telemetry.py)
E2E = BUILD=$(O) SHARED=$(SHARED) $(PYTEST)
# what tests ask make for: two at once would both build it
e2e: all $(O)/example_generate $(O)/bench/make_model
ifeq ($(E2E_JOBS),1)
	@$(E2E) tests/e2e $(PYTEST_ARGS)
else
	@$(E2E) -n $(E2E_JOBS) --dist loadfile tests/e2e $(E2E_ALONE:%=--ignore=%) $(PYTEST_ARGS); rc=$$?; \
		$(E2E) $(E2E_ALONE) $(PYTEST_ARGS) && exit $$rc
endif

# What serves clients, end to end on daemons and commands made with sanitizers: many minutes. SAN=thread for the other kind.
SANITIZED ?= http or prefix_chats or slots or forms or chat or batch
.PHONY: e2e-sanitized
e2e-sanitized:
	@LSAN_OPTIONS=suppressions=$(CURDIR)/tests/e2e/lsan.supp \
		$(MAKE) SAN=$(if $(SAN),$(SAN),address,undefined) PYTEST_ARGS="-k '$(SANITIZED)' $(PYTEST_ARGS)" e2e

# The same under ThreadSanitizer, for what threads meet in. A report of any program fails the target, that of one which
# was killed or whose exit status nobody looked at too. RACES='test_batch': less.
RACES ?= test_warm or test_http.py or test_http_abuse or test_http_chat or prefix_chats or test_batch or cancel
RACES_SEEN = $(abspath $(O)-thread/races)
.PHONY: e2e-races
e2e-races:
	@rm -rf $(RACES_SEEN) && mkdir -p $(RACES_SEEN)
	@TSAN_OPTIONS="suppressions=$(CURDIR)/tests/e2e/tsan.supp log_path=$(RACES_SEEN)/report $$TSAN_OPTIONS" \
		$(MAKE) --no-print-directory O=$(O)-thread SAN=thread PYTEST_ARGS="-k '$(RACES)' $(PYTEST_ARGS)" e2e; rc=$$?; \
		for f in $(RACES_SEEN)/*; do test ! -e "$$f" || { cat "$$f"; rc=1; }; done; exit $$rc

# Published frontends and agents, each in an environment of its own from PyPI: minutes, and what they need of the network
.PHONY: test-clients
test-clients: all
	@BUILD=$(O) SHARED=$(SHARED) $(PYTEST) tests/clients $(PYTEST_ARGS)

# tests/long/test_long.py: deadlines of HTTP; kill -9 (KILLS=200); an hour at the cache's limit (SOAK_SECONDS=3600)
LONG := BUILD=$(O) $(PYTEST) -s tests/long/test_long.py
.PHONY: test-deadlines test-kill soak
test-deadlines test-kill soak: all
	@$(LONG) -k $(subst test-,,$@)

# kill -9 at random moments with the memory kept (KILLS=200): warm starts, logits as before (tests/e2e/test_warm.py)
.PHONY: test-kill-warm
test-kill-warm: all
	@KILLS=$${KILLS:-200} BUILD=$(O) SHARED=$(SHARED) $(PYTEST) -s tests/e2e/test_warm.py -k test_kill

# Ten thousand answers of random weights held to the fixtures' schemas (FORMS_COUNT=10000): some minutes
.PHONY: test-forms-long
test-forms-long: all
	@BUILD=$(O) SHARED=$(SHARED) $(PYTEST) -s tests/long/test_forms.py $(PYTEST_ARGS)

# Verdicts and masks against xgrammar's, from PyPI in an environment of its own
.PHONY: test-xgrammar
test-xgrammar: all
	@BUILD=$(O) SHARED=$(SHARED) $(PYTEST) -s tests/xgrammar $(PYTEST_ARGS)

# tests/long/test_batch.py: 320 documents of 3,750 tokens, killed three times: the results of one run and of one at a time
.PHONY: test-batch
test-batch: all
	@BUILD=$(O) $(PYTEST) -s tests/long/test_batch.py

# Everything that needs no special machine; the last line has the sums. NEED_SHARED=1: a missing SHARED is a failure.
test: setup-build+install+test+kmod
	@tests/all.sh $(O)/test-results '$(MAKE)'

.PHONY: unit-programs
unit-programs: $(UNIT)

# ---- serve: protocol, clients ----
$(filter $(O)/tests/serve/%,$(UNIT)): $(O)/libsluice.a
$(filter $(O)/tests/serve/test_http% $(O)/tests/serve/test_options,$(UNIT)): LIBS += $(LIBS_serve)

# ---- tools: verbs without their main() ----
$(O)/lib/libtools.a: $(filter-out $(O)/obj/tools/main.o,$(call obj,$(SRC_tools)))
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^
$(filter $(O)/tests/tools/%,$(UNIT)): LIBS += $(LIBS_tools)
$(filter $(O)/tests/tools/%,$(UNIT)): $(O)/lib/libtools.a $(call archives,plan) $(O)/libsluice.a

# ---- fuzzing: the GGUF reader
# make O=... $(O)/fuzz/fuzz_gguf, then: $(O)/fuzz/fuzz_gguf -max_len=65536 WORK_DIR tests/fuzz/seeds/gguf
FUZZ_GGUF_SRC := tests/fuzz/fuzz_gguf.c kernels/quant.c base/err.c base/hash.c $(wildcard daemon/model/arch/*.c) \
	$(filter-out $(addprefix daemon/model/,tokenizer% pretok% detok% chat.c bpe% spm%),$(wildcard daemon/model/*.c))
$(O)/fuzz/fuzz_gguf: $(FUZZ_GGUF_SRC) $(wildcard daemon/model/*.h base/*.h kernels/quant.h)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang -std=gnu11 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-D_GNU_SOURCE -I. -Idaemon -o $@ $(FUZZ_GGUF_SRC) -lm

# ---- bench: against llama.cpp on synthetic models (tests/bench/compare.py says how)
# make bench-compare MODEL_SHAPE=qwen3.5-35b-a3b [MODEL_LAYERS=24] [COMPARE_ARGS='--rounds 3 --json OUT']
MODEL_SHAPE ?= qwen3-30b-a3b
MODEL_LAYERS ?= 8
MODEL_VOCAB ?= 32768
BENCH_MODEL = $(O)/bench/$(MODEL_SHAPE)-l$(MODEL_LAYERS)-v$(MODEL_VOCAB).gguf
.PHONY: bench-model bench-peer bench-compare
$(BENCH_MODEL): $(O)/bench/make_model
	@$< --shape $(MODEL_SHAPE) --layers $(MODEL_LAYERS) --vocab $(MODEL_VOCAB) --out $@.part
	@mv $@.part $@
bench-model: $(BENCH_MODEL)
bench-peer:
	@tests/bench/peer/build.sh llama-bench >/dev/null
bench-compare: all bench-model bench-peer
	@$(PYTHON) tests/bench/compare.py --build $(O) --model $(BENCH_MODEL) $(COMPARE_ARGS)

# What reading experts ahead of layers gains: make bench-ahead MODEL_SHAPE=qwen3.5-35b-a3b [AHEAD_ARGS='--rounds 3']
.PHONY: bench-ahead
bench-ahead: all bench-model
	@$(PYTHON) tests/bench/ahead.py --build $(O) --model $(BENCH_MODEL) $(AHEAD_ARGS)

# What drafts gain by verification alone: make bench-spec MODEL_SHAPE=qwen3.5-35b-a3b [SPEC_ARGS='--repetitions 6']
.PHONY: bench-spec
bench-spec: all bench-model
	@$(PYTHON) tests/bench/spec.py --build $(O) --model $(BENCH_MODEL) $(SPEC_ARGS)

# All of them, none from a disturbed machine: make bench-all MODEL_SHAPE=qwen3.5-35b-a3b ALL_ARGS='--peer build/peer/bin'
.PHONY: bench-all
bench-all: all bench-model $(O)/bench/kernels
	@$(PYTHON) tests/bench/all.py --build $(O) --model $(BENCH_MODEL) $(ALL_ARGS)

# Decode beside another program, and during the fill: make bench-busy MODEL_SHAPE=qwen3.5-35b-a3b [BUSY_ARGS='--peer build/peer/bin']
.PHONY: bench-busy
bench-busy: all bench-model
	@$(PYTHON) tests/bench/busy.py --build $(O) --model $(BENCH_MODEL) $(BUSY_ARGS)

# Seconds to the first token of a warm start: make bench-warm MODEL_SHAPE=qwen3.5-35b-a3b
.PHONY: bench-warm
bench-warm: all bench-model
	@$(PYTHON) tests/bench/warm.py --build $(O) --model $(BENCH_MODEL)

# ---- fuzzing: the native protocol
# make O=... $(O)/fuzz/fuzz_proto, then: $(O)/fuzz/fuzz_proto -max_len=8192 WORK_DIR tests/fuzz/seeds/proto
FUZZ_PROTO_SRC := tests/fuzz/fuzz_proto.c $(filter-out daemon/serve/options% daemon/serve/settings.c daemon/serve/hello.c daemon/serve/http%,$(wildcard daemon/serve/*.c)) \
	daemon/store/warm_name.c base/err.c base/log.c base/logfmt.c base/turns.c
$(O)/fuzz/fuzz_proto: $(FUZZ_PROTO_SRC) $(VERSION_OBJ) tests/unit/serve/fake_rooms.c $(wildcard daemon/serve/*.h) $(call archives,metrics)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang $(CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$(FUZZ_PROTO_SRC) $(VERSION_OBJ) $(call group,$(call archives,metrics)) $(LIBS) -pthread

# ---- fuzzing: HTTP, its endpoints, templates and call parsers together
# make O=... $(O)/fuzz/fuzz_http, then: $(O)/fuzz/fuzz_http -max_len=4096 WORK_DIR tests/fuzz/seeds/http
FUZZ_HTTP_SRC := tests/fuzz/fuzz_http.c \
	$(filter-out daemon/serve/options.c daemon/serve/settings.c daemon/serve/serve.c daemon/serve/hello.c daemon/serve/http_work.c,$(wildcard daemon/serve/*.c)) \
	$(filter-out daemon/chat/chat_load.c,$(wildcard daemon/chat/*.c)) base/err.c base/log.c base/logfmt.c base/jsonc.c base/jsonc_escape.c base/turns.c
FUZZ_CC ?= clang
FUZZ_FLAGS = $(CFLAGS) -O1 -fno-sanitize-recover=undefined
$(O)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  FUZZ    $<"
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<
$(O)/fuzz/obj/daemon/serve/http_page.o: $(wildcard daemon/serve/page/*)
-include $(wildcard $(O)/fuzz/obj/*/*.d $(O)/fuzz/obj/*/*/*.d)
$(O)/fuzz/fuzz_http: $(FUZZ_HTTP_SRC:%.c=$(O)/fuzz/obj/%.o) $(VERSION_OBJ) $(call archives,plan)
	@echo "  FUZZ    $@"
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -o $@ $(filter %.o,$^) \
		$(call group,$(call archives,plan)) $(LIBS_serve) $(LIBS) -pthread

# ---- fuzzing: the tokenizer
# make O=... $(O)/fuzz/fuzz_tokenizer, then here: $(O)/fuzz/fuzz_tokenizer -max_len=4096 WORK_DIR tests/fuzz/seeds/tokenizer
FUZZ_TOKENIZER_SRC := tests/fuzz/fuzz_tokenizer.c base/err.c base/hash.c kernels/quant.c \
	$(wildcard daemon/model/*.c daemon/model/arch/*.c)
$(O)/fuzz/fuzz_tokenizer: $(FUZZ_TOKENIZER_SRC) $(wildcard daemon/model/*.h base/*.h kernels/quant.h)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang -std=gnu11 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-D_GNU_SOURCE -I. -Idaemon -o $@ $(FUZZ_TOKENIZER_SRC) -lpcre2-8 -lm -pthread

# ---- fuzzing: tool calls in a model's text
# make O=... $(O)/fuzz/fuzz_calls, then: $(O)/fuzz/fuzz_calls -max_len=4096 WORK_DIR tests/fuzz/seeds/calls
FUZZ_CALLS_SRC := tests/fuzz/fuzz_calls.c base/err.c base/jsonc.c base/jsonc_escape.c $(wildcard daemon/chat/calls*.c)
$(O)/fuzz/fuzz_calls: $(FUZZ_CALLS_SRC) $(wildcard daemon/chat/calls*.h base/*.h)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang -std=gnu11 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-D_GNU_SOURCE -I. -Idaemon -o $@ $(FUZZ_CALLS_SRC) -ljson-c -ldl -lm

# ---- fuzzing: schemas, grammars, regular expressions, and their masks
# make O=... $(O)/fuzz/fuzz_grammar, then: $(O)/fuzz/fuzz_grammar -max_len=4096 WORK_DIR tests/fuzz/seeds/grammar
FUZZ_GRAMMAR_SRC := tests/fuzz/fuzz_grammar.c base/err.c base/hash.c base/jsonc.c base/jsonc_escape.c \
	$(filter-out daemon/grammar/vocab_tokenizer.c,$(wildcard daemon/grammar/*.c))
$(O)/fuzz/fuzz_grammar: $(FUZZ_GRAMMAR_SRC) $(wildcard daemon/grammar/*.h base/*.h)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang -std=gnu11 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-D_GNU_SOURCE -I. -Idaemon -o $@ $(FUZZ_GRAMMAR_SRC) -ljson-c -ldl -lm

# ---- fuzzing: the interpreter of chat templates
# make O=... $(O)/fuzz/fuzz_template, then: $(O)/fuzz/fuzz_template -max_len=4096 WORK_DIR tests/fuzz/seeds/template
FUZZ_TEMPLATE_SRC := tests/fuzz/fuzz_template.c base/err.c base/jsonc.c base/jsonc_escape.c \
	$(filter-out daemon/chat/calls% daemon/chat/chat_load.c daemon/chat/turn.c,$(wildcard daemon/chat/*.c))
$(O)/fuzz/fuzz_template: $(FUZZ_TEMPLATE_SRC) $(wildcard daemon/chat/*.h base/*.h)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@clang -std=gnu11 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-D_GNU_SOURCE -I. -Idaemon -o $@ $(FUZZ_TEMPLATE_SRC) -ljson-c -ldl -lm
# make diff-jinja [DIFF_ARGS='--seconds 600 --seed 100000']: random templates, Jinja2's renderings and ours
DIFF_ARGS ?= --count 2000
.PHONY: diff-jinja
$(O)/tests/fuzz/render_rows: tests/fuzz/render_rows.c $(call archives,chat)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(call group,$(call archives,chat)) $(LIBS)
diff-jinja: $(O)/tests/fuzz/render_rows
	@BUILD=$(O) $(PYTHON) tests/fuzz/diff_jinja.py $(DIFF_ARGS)

# make fuzz [FUZZ_SECONDS=600]: all targets one after the other; corpora in $(O)/fuzz/corpus-*
FUZZ_SECONDS ?= 600
FUZZ_LEN_gguf := 65536
FUZZ_LEN_tokenizer := 4096
FUZZ_LEN_proto := 8192
FUZZ_LEN_calls := 4096
FUZZ_LEN_template := 2048
FUZZ_LEN_http := 4096
FUZZ_LEN_grammar := 4096
FUZZ_TARGETS := gguf tokenizer proto calls template http grammar
.PHONY: fuzz fuzz-seeds
FUZZERS := $(addprefix $(O)/fuzz/fuzz_,$(FUZZ_TARGETS))
# what make test runs: that they build, and take their seeds
fuzz-seeds: $(FUZZERS)
	@set -e; for t in $(FUZZ_TARGETS); do \
		$(O)/fuzz/fuzz_$$t -runs=0 -timeout=60 -artifact_prefix=$(O)/fuzz/ tests/fuzz/seeds/$$t \
			>$(O)/fuzz/$$t.log 2>&1 || { tail -n 20 $(O)/fuzz/$$t.log; exit 1; }; done
fuzz: $(FUZZERS)
	@set -e; for t in $(foreach t,$(FUZZ_TARGETS),$(t):$(FUZZ_LEN_$(t))); do mkdir -p $(O)/fuzz/corpus-$${t%:*}; \
		$(O)/fuzz/fuzz_$${t%:*} -max_total_time=$(FUZZ_SECONDS) -max_len=$${t#*:} -timeout=30 \
			-print_final_stats=1 -artifact_prefix=$(O)/fuzz/ \
			$(O)/fuzz/corpus-$${t%:*} tests/fuzz/seeds/$${t%:*}; done

# ---- kernel module
# make check-kmod KDIR=... [LINUX_SOURCE=tree]: sparse, checkpatch --strict, coccinelle; any finding fails
.PHONY: check-kmod
check-kmod: setup-kmod-check
	@LINUX_SOURCE=$(LINUX_SOURCE) kmod/check.sh '$(KDIR)' $(O)/kmod-check

# The ABI header alone in C11 and C++17: built with the unit test of the page.
$(O)/tests/kmod/test_page: $(O)/obj/header_alone.stamp
$(O)/obj/header_alone.stamp: tests/unit/kmod/header_alone.c uapi/sluice_telemetry.h
	@mkdir -p $(@D)
	@$(CC) -std=c11 -Wall -Wextra -Wshadow -Wpedantic -Wpadded -Werror -I. -fsyntax-only $<
	@$(CXX) -x c++ -std=c++17 -Wall -Wextra -Wshadow -Wpedantic -Wpadded -Werror -I. -fsyntax-only $<
	@touch $@

# ---- kernel module in guests (docs/kmod-testing.md)
# make test-kmod          every kernel with every topology under QEMU; ROWS= and TOPOLOGIES= narrow it
# make test-kmod-row      one of them, as make test does: KMOD_ROW=6.1-cloud KMOD_TOPOLOGY=2
# make test-kmod-daemon   the real daemon in a guest with four nodes, with the module and without
# make test-kmod-debug    a KASAN + lockdep + kmemleak kernel: programs, seeded bugs, FUZZ_SECONDS of fuzz
KERNELS ?= build/kernels
KMOD_LOGS ?= build/kmod-logs
KMOD_ROW ?= 6.1-cloud
KMOD_TOPOLOGY ?= 2
FUZZ_SECONDS ?= 1800
KMOD_GUEST_SRC := $(filter-out %/guest.c,$(wildcard tests/kmod/guest/*.c))
KMOD_GUEST := $(patsubst tests/kmod/guest/%.c,$(O)/kmod-guest/%,$(KMOD_GUEST_SRC))
KMOD_ENV = OUT=$(O) KERNELS=$(KERNELS) LOGS=$(KMOD_LOGS)
$(O)/kmod-guest/%: tests/kmod/guest/%.c tests/kmod/guest/guest.c tests/kmod/guest/guest.h \
		uapi/sluice_telemetry.h
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(CC) -static -std=gnu11 $(WARN) $(if $(WERROR),-Werror) -O2 -D_GNU_SOURCE -I. -pthread \
		-o $@ $< tests/kmod/guest/guest.c
.PHONY: test-kmod test-kmod-row test-kmod-debug test-kmod-daemon
test-kmod: setup-kmod $(KMOD_GUEST)
	@$(KMOD_ENV) tests/kmod/matrix.sh $(O)/kmod-guest
test-kmod-row: setup-kmod $(KMOD_GUEST)
	@tests/kmod/judge_test.sh
	@$(KMOD_ENV) TORN=20000 tests/kmod/row.sh $(KMOD_ROW) $(KMOD_TOPOLOGY) $(O)/kmod-guest
test-kmod-daemon: setup-kmod $(KMOD_GUEST) all
	@$(KMOD_ENV) tests/kmod/daemon.sh $(O) $(O)/kmod-guest $(MODEL)
test-kmod-debug: setup-kmod+kmod-debug $(KMOD_GUEST)
	@$(KMOD_ENV) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/kmod/debug.sh $(O)/kmod-guest

# ---- telemetry: a libnvidia-ml for tests
$(O)/tests/telemetry/test_nvml: $(O)/tests/telemetry/fake_nvml.so
$(O)/tests/telemetry/fake_nvml.so: tests/unit/telemetry/fake_nvml.c
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 $(WARN) -O1 -fPIC -shared -o $@ $<

# ---- NUMA: the real daemon in guests of 2 and 4 nodes, and of one with a memory-less node
.PHONY: test-numa
test-numa: all
	@OUT=$(O) tests/numa/run.sh 2 4 memless

# ---- limits of the process: the real daemon in control groups of version 2, in a guest
.PHONY: test-cgroup
test-cgroup: setup-kmod all $(O)/tests/store/test_arena
	@OUT=$(O) KERNELS=$(KERNELS) LOGS=$(KMOD_LOGS) tests/cgroup/run.sh

# ---- the packages' units, started by systemd in a guest; minutes, as root, with network for the guest's root once
.PHONY: test-service-guest
test-service-guest: setup-service deb
	@OUT=$(O) ROOTS=$(ROOTS) tests/service/run.sh

# ---- telemetry through the kernel module, in a guest of 4 nodes: values against sysfs, the daemon beside it
.PHONY: test-telemetry
test-telemetry: all setup-kmod+kmod-tools
	@OUT=$(O) tests/telemetry/run.sh 4

# ---- CUDA kernels (tests/gpu/README.md)
# make test-gpu           tests/gpu/test_*.cu on the GPU here, all shapes
# make gpu-programs       the same programs alone, static, to carry to a machine with a GPU
# make test-gpu-emu       all shapes on the CPU: once with ASan and UBSan, once with the race check
# make test-gpu-emu-short what make test runs: small shapes, and the faults that must be found
# make bench-gpu          times of all operations on the GPU here, BENCH_GPU_ARGS='--op matvec --json FILE'
GPU_TESTS := $(patsubst tests/gpu/%.cu,%,$(wildcard tests/gpu/test_*.cu))
GPU_HELP := $(patsubst tests/gpu/%.c,$(O)/obj/tests/gpu/%.o,$(wildcard tests/gpu/*.c))
BENCH_GPU := $(filter-out dry,$(notdir $(basename $(wildcard tests/bench/gpu/*.cu tests/bench/gpu/*.cpp))))
BENCH_DRY := $(filter-out timing peaks cublas,$(notdir $(basename $(wildcard tests/bench/gpu/*.cu)))) dry
.PHONY: need-gpu test-gpu bench-gpu gpu-programs test-gpu-emu test-gpu-emu-short test-gpu-emu-programs test-gpu-seeded
$(O)/gpu/run/%: tests/gpu/%.cu $(O)/libsluice_cuda.a $(GPU_HELP) $(call archives,model)
	@mkdir -p $(@D)
	@echo "  NVCC    $<"
	@$(NVCC) $(CUDA_FLAGS) -Idaemon -cudart static -MD -MP -MF $@.d -o $@ $< $(GPU_HELP) $(O)/libsluice_cuda.a \
		-Xlinker --start-group $(call archives,model) -Xlinker --end-group -lpcre2-8 -lnuma -ljansson -lm -lpthread
$(O)/gpu/bench/%.o: tests/bench/gpu/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC    $<"
	@$(NVCC) $(CUDA_FLAGS) -MD -MP -MF $(@:.o=.d) -c -o $@ $<
$(O)/gpu/bench/%.o: tests/bench/gpu/%.cpp
	@mkdir -p $(@D)
	@echo "  NVCC    $<"
	@$(NVCC) -std=c++17 -O2 -I. -Xcompiler -Wall -MD -MP -MF $(@:.o=.d) -c -o $@ $<
$(O)/gpu/run/bench_gpu: $(BENCH_GPU:%=$(O)/gpu/bench/%.o) $(O)/libsluice_cuda.a $(O)/obj/kernels/quant.o
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(NVCC) -cudart static -o $@ $^ -ldl
gpu-programs: need-nvcc
	@$(MAKE) --no-print-directory -j2 $(addprefix $(O)/gpu/run/,$(GPU_TESTS) bench_gpu)
bench-gpu: need-gpu need-nvcc
	@$(MAKE) --no-print-directory -j2 $(O)/gpu/run/bench_gpu
	@$(O)/gpu/run/bench_gpu $(BENCH_GPU_ARGS)
need-gpu:
	@test -e /dev/nvidiactl || test -e /dev/dxg || \
		{ echo "there is no NVIDIA GPU on this machine: nothing was run (make test-gpu-emu needs none)"; exit 1; }
test-gpu: need-gpu gpu-programs
	@SHARED=$(SHARED) TEST_ARGS=--all TEST_TIMEOUT=600 tests/run.sh $(addprefix $(O)/gpu/run/,$(GPU_TESTS))

# The shim: one archive of it and one of the kernels for each flavour.
EMU_FLAGS := -std=c++17 $(filter-out -Wmissing-prototypes -Wshadow,$(WARN)) -Wno-unknown-pragmas \
	-Wno-unused-function $(if $(WERROR),-Werror) -g1 -O1 -fno-omit-frame-pointer -ffp-contract=off \
	-fno-strict-aliasing -pthread -D_GNU_SOURCE -I. -Idaemon -Itests/gpu/emu/include
# not enum: that launchers refuse a value that is none is tested
EMU_SEES_san := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=enum
# (fences of the device mean nothing to the race check, which looks at shared memory alone)
EMU_SEES_race := -fsanitize=thread -Wno-tsan -DSLUICE_EMU_RACE
EMU_SEES_fast := -O2
# for the daemon under ThreadSanitizer: kernels are seen, the shim itself only says which fiber runs
EMU_SEES_tsan := -O2 -fsanitize=thread -Wno-tsan
EMU_SHIM_san = $(EMU_SEES_san)
EMU_SHIM_fast = $(EMU_SEES_fast)
EMU_SHIM_race := -fno-pie -DSLUICE_EMU_RACE
EMU_SHIM_tsan := -O2 -DSLUICE_EMU_TSAN
EMU_LINK_san := $(EMU_SEES_san)
EMU_LINK_race := -no-pie
EMU_SRC_san := $(filter-out %/shadow.cpp,$(wildcard tests/gpu/emu/*.cpp))
EMU_SRC_fast = $(EMU_SRC_san)
EMU_SRC_tsan = $(EMU_SRC_san)
EMU_LINK_tsan := $(EMU_SEES_tsan)
EMU_SRC_race := $(wildcard tests/gpu/emu/*.cpp)
EMU_LIBS := -lpcre2-8 -lnuma -ljansson -lm
define emu_rules
$(O)/gpu/$(1)/%.o: %.cu
	@mkdir -p $$(@D)
	@echo "  EMU     $$<"
	@$(CXX) -x c++ $$(EMU_FLAGS) $$(EMU_SEES_$(1)) $(if $(findstring race,$(1)),-fno-pie) -MMD -MP -c -o $$@ $$<
$(O)/gpu/$(1)/%.o: %.cpp
	@mkdir -p $$(@D)
	@echo "  EMU     $$<"
	@$(CXX) $$(EMU_FLAGS) $$(EMU_SHIM_$(1)) -MMD -MP -c -o $$@ $$<
$(O)/gpu/$(1)/shim.a: $$(patsubst %.cpp,$(O)/gpu/$(1)/%.o,$$(EMU_SRC_$(1)))
	@rm -f $$@
	@$(AR) rcs $$@ $$^
$(O)/gpu/$(1)/kernels.a: $$(patsubst %.cu,$(O)/gpu/$(1)/%.o,$(CUDA_SRC))
	@rm -f $$@
	@$(AR) rcs $$@ $$^
$(O)/gpu/$(1)/run/%: $(O)/gpu/$(1)/tests/gpu/%.o $(O)/gpu/$(1)/kernels.a $(O)/gpu/$(1)/shim.a $(GPU_HELP) $(call archives,model)
	@mkdir -p $$(@D)
	@$(CXX) $$(EMU_LINK_$(1)) -pthread -o $$@ $$< $(GPU_HELP) $(O)/gpu/$(1)/kernels.a \
		-Wl,--whole-archive $(O)/gpu/$(1)/shim.a -Wl,--no-whole-archive \
		$(call group,$(call archives,model)) $(EMU_LIBS)
$(O)/gpu/$(1)/seeded/%: $(O)/gpu/$(1)/tests/gpu/seeded/%.o $(O)/gpu/$(1)/kernels/cuda/launch.o $(O)/gpu/$(1)/shim.a
	@mkdir -p $$(@D)
	@$(CXX) $$(EMU_LINK_$(1)) -pthread -o $$@ $$< $(O)/gpu/$(1)/kernels/cuda/launch.o -Wl,--whole-archive $(O)/gpu/$(1)/shim.a -Wl,--no-whole-archive
endef
$(eval $(call emu_rules,san))
$(eval $(call emu_rules,race))
$(eval $(call emu_rules,fast))
$(eval $(call emu_rules,tsan))
.SECONDARY: $(foreach f,san race,$(patsubst %.cu,$(O)/gpu/$(f)/%.o,$(CUDA_SRC) $(wildcard tests/gpu/*.cu tests/gpu/seeded/*.cu)))
# The benchmark's launches, every one once: what is left where nothing can be timed.
$(O)/gpu/san/run/bench_dry: $(BENCH_DRY:%=$(O)/gpu/san/tests/bench/gpu/%.o) $(O)/gpu/san/kernels.a $(O)/gpu/san/shim.a $(O)/obj/kernels/quant.o
	@mkdir -p $(@D)
	@$(CXX) $(EMU_LINK_san) -pthread -o $@ $(filter %.o,$^) $(O)/gpu/san/kernels.a \
		-Wl,--whole-archive $(O)/gpu/san/shim.a -Wl,--no-whole-archive
EMU_RUN = $(foreach f,san race,$(addprefix $(O)/gpu/$(f)/run/,$(GPU_TESTS)))
EMU_SEEDED = $(foreach f,san race,$(patsubst tests/gpu/%.cu,$(O)/gpu/$(f)/%,$(wildcard tests/gpu/seeded/*.cu)))
EMU_SEEDED += $(addprefix $(O)/gpu/tsan/seeded/,host_race none)
.PHONY: emu-programs
emu-programs: $(EMU_RUN) $(EMU_SEEDED) $(O)/gpu/san/run/bench_dry
test-gpu-seeded: $(EMU_SEEDED) $(O)/gpu/san/run/bench_dry $(O)/gpu/san/run/test_runtime $(O)/gpu/san/run/test_expert_reduce
	@tests/gpu/seeded.sh $(O)/gpu
	@tests/gpu/hardware_dry.sh $(O)/gpu
test-gpu-emu-programs: emu-programs
	@SHARED=$(SHARED) TEST_ARGS=$(EMU_ARGS) tests/run.sh $(EMU_RUN)
	@TEST_ARGS=--small tests/run.sh $(O)/gpu/san/run/bench_dry
test-gpu-emu-short:
	@$(MAKE) --no-print-directory -j$$(nproc) emu-programs
	@$(MAKE) --no-print-directory test-gpu-seeded test-gpu-emu-programs
# The daemon with its device over the fake runtime, and what is tested with it.
.PHONY: $(O)/emu/sluiced test-device
ifneq ($(DEVICE_CUDA),emu)
$(O)/emu/sluiced:
	@$(MAKE) --no-print-directory O=$(O)/emu DEVICE_CUDA=emu $(O)/emu/sluiced
endif
test-device: $(O)/emu/sluiced $(O)/sluice $(O)/libsluice.so
	@BUILD=$(O) SHARED=$(SHARED) $(PYTEST) tests/device $(PYTEST_ARGS)
# What takes hours, or builds of its own: a hundred orders of streams, each with fills and evictions by lot in every step; steps of 2048 tokens;
# the same device and kernels under ASan and UBSan, and under TSan, which is told of the switches of fibers.
.PHONY: test-device-long test-device-seeds test-device-sanitized test-device-races
test-device-long:
	@$(MAKE) --no-print-directory test-device-seeds
	@$(MAKE) --no-print-directory test-device-sanitized
	@$(MAKE) --no-print-directory test-device-races
test-device-seeds:
	@DEVICE_SEEDS=100 $(MAKE) --no-print-directory test-device PYTEST_ARGS="-k 'shuffled or steps_of_2048' $(PYTEST_ARGS)"
# All but what stops the clock (a hundred starts that fail alike) and faults that are put into the plain build; SANITIZED_DEVICE='company': less.
SANITIZED_DEVICE ?= not (test_calls or seeded or 2048 or known)
# Threads meet in decode and prompts, fills, memory that goes to and fro, cancelled requests and lost devices.
RACES_DEVICE ?= company or test_prompts or shuffled or launches or cancel or to_and_fro or reloaded or lost or fills_fail
# so many times as long may daemons take to start, answer and stop (tests/e2e/daemon.py)
PATIENCE ?= 8
test-device-sanitized: $(O)/sluice $(O)/libsluice.so
	@$(MAKE) --no-print-directory O=$(O)-address-undefined SAN=address,undefined $(O)-address-undefined/emu/sluiced
	@PATIENCE=$(PATIENCE) DEVICE_PROGRAM=$(abspath $(O)-address-undefined/emu/sluiced) BUILD=$(O) SHARED=$(SHARED) $(PYTEST) tests/device -k '$(SANITIZED_DEVICE)' $(PYTEST_ARGS)
test-device-races: $(O)/sluice $(O)/libsluice.so
	@$(MAKE) --no-print-directory O=$(O)-thread SAN=thread $(O)-thread/emu/sluiced
	@PATIENCE=$(PATIENCE) DEVICE_PROGRAM=$(abspath $(O)-thread/emu/sluiced) BUILD=$(O) SHARED=$(SHARED) $(PYTEST) tests/device -k '$(RACES_DEVICE)' $(PYTEST_ARGS)
test-gpu-emu:
	@TEST_TIMEOUT=7200 $(MAKE) --no-print-directory EMU_ARGS=--all test-gpu-emu-short
