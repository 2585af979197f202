# lcqat: `make help` lists the targets. One makefile, not recursive but for the targets that first install
# what the machine lacks. MODE is release, debug or asan; V=1 shows the commands; CI turns warnings into
# errors; CFLAGS, LDFLAGS and CC of the caller are respected (another compiler wants a BUILD of its own).
MODE    ?= release
BUILD   ?= build/$(MODE)
PROFILE ?= mini
JOBS    ?= $(shell nproc)
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

# What the machine must have: Debian package = what shows that it is there (a module of pkg-config, a
# command, a file). The only such list: experiments/deps.sh installs from it, pkg-config is asked by it.
NEED_BUILD := gcc=cmd:gcc libc6-dev=file:/usr/include/stdio.h pkg-config=cmd:pkg-config \
    libopenblas-openmp-dev=file:/usr/lib/*/openblas-openmp/libopenblas.so libcjson-dev=pc:libcjson \
    libarchive-dev=pc:libarchive libssl-dev=pc:libcrypto \
    libpcre2-dev=pc:libpcre2-8
NEED_TEST  := libcmocka-dev=pc:cmocka gnuplot-nox=cmd:gnuplot
NEED_RUN   := gnuplot-nox=cmd:gnuplot ca-certificates=file:/etc/ssl/certs/ca-certificates.crt
# Not needed to build: without it compute=bf16 is refused.
NEED_EXTRA := libdnnl-dev=file:/usr/include/oneapi/dnnl/dnnl.h
NEED_LINT  := clang-format=cmd:clang-format clang=cmd:clang clang-tidy=cmd:clang-tidy \
    cppcheck=cmd:cppcheck shellcheck=cmd:shellcheck
MODULES    := $(patsubst pc:%,%,$(filter pc:%,$(subst =, ,$(NEED_BUILD))))

DNNL ?= $(if $(wildcard $(patsubst libdnnl-dev=file:%,%,$(NEED_EXTRA))),-ldnnl)

# Asked once, when a recipe first needs it: by then what was missing is installed.
once = $(eval $(1) := $(2))$($(1))
# The OpenMP build of OpenBLAS is asked for by name: another BLAS may be the system's default.
BLAS_LIB   = $(call once,BLAS_LIB,$(patsubst %/,%,$(dir $(firstword $(shell ls -d /usr/lib/*/openblas-openmp/libopenblas.so)))))
BLAS_INC   = $(call once,BLAS_INC,$(patsubst %/,%,$(dir $(firstword $(shell ls -d /usr/include/*/openblas-openmp/cblas.h)))))
PKG_CFLAGS = $(call once,PKG_CFLAGS,$(shell pkg-config --cflags $(MODULES)) -isystem $(BLAS_INC))
PKG_LIBS   = $(call once,PKG_LIBS,$(shell pkg-config --libs $(MODULES)) \
    -Wl$(comma)--as-needed -L$(BLAS_LIB) -Wl$(comma)-rpath$(comma)$(BLAS_LIB) -lopenblas $(DNNL))
IS_CLANG   = $(call once,IS_CLANG,$(findstring clang,$(shell $(CC) --version)))
comma := ,

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion -Wstrict-prototypes \
    -Wmissing-prototypes -Wold-style-definition -Wundef -Wvla -Wcast-qual -Wcast-align \
    -Wwrite-strings -Wformat=2 -Wnull-dereference -Wswitch-enum -fno-common $(if $(CI),-Werror)
WARN_GCC := -Wduplicated-cond -Wlogical-op
MODE_FLAGS_release := -O2 -g
MODE_FLAGS_debug   := -O0 -g -DLQ_DEBUG
SANITIZE := -fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero
MODE_FLAGS_asan    := -O1 -g -DLQ_DEBUG -fno-omit-frame-pointer -fno-sanitize-recover=all $(SANITIZE)
MODE_FLAGS := $(MODE_FLAGS_$(MODE))
ifeq ($(MODE_FLAGS),)
$(error MODE=$(MODE): there are release, debug, asan)
endif
DEFINES := -I. -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE
COMPILE  = $(CC) $(DEFINES) $(CPPFLAGS) -std=c17 $(WARN) $(if $(IS_CLANG),,$(WARN_GCC)) $(MODE_FLAGS) \
    -fopenmp $(PKG_CFLAGS) $(CFLAGS) $(FILE_FLAGS) -MMD -MP -c $< -o $@
LINK     = $(CC) $(if $(filter asan,$(MODE)),$(SANITIZE)) -fopenmp $(LDFLAGS) $(filter %.o %.a,$^) \
    -o $@ $(LDLIBS) $(PKG_LIBS) -lm
Q   := $(if $(filter 1,$(V)),,@)
say  = $(if $(filter 1,$(V)),,printf '%-4s %s\n' $(1) $(2);)

# Sources by floor. core/math/ref is compiled without contraction: it is the definition. The fast
# kernels are compiled once an instruction set; which one runs is decided at run time.
LIB_SRC  := $(filter-out core/math/fast/%,$(wildcard core/*/*.c core/*/*/*.c)) $(wildcard baselines/*.c)
APP_SRC  := $(wildcard experiments/*.c)
FAST_SRC := $(wildcard core/math/fast/*.c)
ISAS     := $(if $(filter x86_64,$(shell uname -m)),base v3 v4,base)
ISA_FLAGS_base :=
ISA_FLAGS_v3   := -march=x86-64-v3
ISA_FLAGS_v4   := -march=x86-64-v4 -mprefer-vector-width=512
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o) \
            $(foreach isa,$(ISAS),$(FAST_SRC:%.c=$(BUILD)/%.$(isa).o))
APP_OBJ  := $(APP_SRC:%.c=$(BUILD)/%.o)
# A test is a program of its own, linked with the library and the commands. The golden runner is one
# program of all its files. Unit tests run under the sanitizers, the others need the speed.
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
LONG_SRC   := $(wildcard tests/twin/test_*.c tests/contract/test_*.c tests/replay/test_*.c)
GOLDEN_SRC := $(wildcard tests/golden/*.c)
UNIT_BIN   := $(UNIT_SRC:%.c=$(BUILD)/%)
LONG_BIN   := $(LONG_SRC:%.c=$(BUILD)/%)
GOLDEN_BIN := $(if $(GOLDEN_SRC),$(BUILD)/tests/golden/golden)
TEST_OBJ   := $(patsubst %.c,$(BUILD)/%.o,$(UNIT_SRC) $(LONG_SRC) $(GOLDEN_SRC))
CLI_TESTS  := $(wildcard tests/cli/*.sh)

# build/lcqat is the release build; any other BUILD keeps its program to itself.
PROGRAM := $(if $(filter build/release,$(BUILD)),build/lcqat,$(BUILD)/lcqat)
.PHONY: all
all: $(PROGRAM) ## builds build/lcqat (MODE=debug or asan: build/MODE/lcqat)
build/lcqat: build/release/lcqat
	@cp -f $< $@.tmp && mv -f $@.tmp $@

$(BUILD)/liblcqat.a: $(LIB_OBJ)
	$(Q)$(call say,AR,$@) rm -f $@ && ar rcs $@ $^
$(BUILD)/lcqat: $(APP_OBJ) $(BUILD)/liblcqat.a
	$(Q)$(call say,LINK,$@) $(LINK)

$(LIB_OBJ) $(APP_OBJ) $(TEST_OBJ): | need-build
$(BUILD)/core/math/ref/%.o: FILE_FLAGS += -ffp-contract=off
$(BUILD)/tests/%.o: FILE_FLAGS += -Wno-missing-prototypes
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(call say,CC,$<) $(COMPILE)
define fast_rule
$(BUILD)/core/math/fast/%.$(1).o: FILE_FLAGS += -O3 -Wno-psabi $(ISA_FLAGS_$(1)) -DLQ_ISA=$(1)
$(BUILD)/core/math/fast/%.$(1).o: core/math/fast/%.c
	@mkdir -p $$(@D)
	$$(Q)$$(call say,CC,"$$< ($(1))") $$(COMPILE)
endef
$(foreach isa,$(ISAS),$(eval $(call fast_rule,$(isa))))
# Where codes are decided, every instruction set computes as the definition does.
$(foreach isa,$(ISAS),$(BUILD)/core/math/fast/round.$(isa).o): FILE_FLAGS += -ffp-contract=off

# The version is compiled in again when `git describe` says something new, and only then.
VERSION := $(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
$(BUILD)/experiments/version.o: FILE_FLAGS += -DLQ_VERSION='"$(VERSION)"' -DLQ_CFLAGS='"$(MODE_FLAGS)"'
$(BUILD)/experiments/version.o: $(BUILD)/version.stamp
$(BUILD)/version.stamp: always
	@mkdir -p $(@D); echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

# And so is what depends on oneDNN being there.
$(BUILD)/core/math/gemm_bf16.o: FILE_FLAGS += $(if $(DNNL),-DLQ_HAVE_DNNL)
$(BUILD)/core/math/gemm_bf16.o: $(BUILD)/dnnl.stamp
$(BUILD)/dnnl.stamp: always
	@mkdir -p $(@D); echo '$(DNNL)' | cmp -s - $@ || echo '$(DNNL)' > $@

# As archives: a test takes from the commands what it needs and no more.
LIBS := $(BUILD)/libexperiments.a $(BUILD)/liblcqat.a
$(BUILD)/libexperiments.a: $(filter-out $(BUILD)/experiments/main.o,$(APP_OBJ))
	$(Q)$(call say,AR,$@) rm -f $@ && ar rcs $@ $^
$(UNIT_BIN) $(LONG_BIN): %: %.o $(LIBS)
	$(Q)$(call say,LINK,$@) $(LINK) -lcmocka
$(GOLDEN_BIN): $(GOLDEN_SRC:%.c=$(BUILD)/%.o) $(LIBS)
	$(Q)$(call say,LINK,$@) $(LINK)
-include $(wildcard $(LIB_OBJ:.o=.d) $(APP_OBJ:.o=.d) $(TEST_OBJ:.o=.d))

# ---- what a user types. Those that may install come in two stages: the second is a make of its own,
# which sees the machine as it then is.
.PHONY: help deps need-build always reproduce test test-asan bench paper golden teachers lint hooks clean
.PHONY: release unit-programs long-programs run-profile
STAGE2 = $(MAKE) --no-print-directory
release: # whatever MODE is: what computes numbers is the release build
	+@$(STAGE2) MODE=release BUILD=build/release all

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo; echo "  PROFILE=$(PROFILE) JOBS=$(JOBS) MODE=$(MODE); profiles: $(PROFILES)"
need-build:
	@experiments/deps.sh --check $(NEED_BUILD)
deps: ## installs what the machine lacks (root or sudo), or prints the command to type
	@experiments/deps.sh $(sort $(NEED_BUILD) $(NEED_TEST) $(NEED_RUN) $(NEED_EXTRA))

PROFILES := $(patsubst experiments/specs/%.json,%,$(wildcard experiments/specs/*.json))
ifneq ($(filter reproduce run-profile paper,$(MAKECMDGOALS)),)
ifeq ($(filter $(PROFILE),$(PROFILES)),)
$(error PROFILE=$(PROFILE): no experiments/specs/$(PROFILE).json; there are: $(PROFILES))
endif
endif
SPEC := experiments/specs/$(PROFILE).json
OUT  := results/$(PROFILE)
reproduce: deps ## runs the sweep of PROFILE (mini) and writes tables, figures, index.html, the paper
	@experiments/deps.sh --lists
	+@started=$$(date +%s) && $(STAGE2) run-profile && $(STAGE2) paper && \
	    seconds=$$(($$(date +%s) - started)) && \
	    echo "figures: $$(ls $(OUT)/*.svg $(OUT)/*/*.svg 2>/dev/null | tr '\n' ' ')" && \
	    echo "results: $(OUT)/index.html   ($$((seconds / 60)) min $$((seconds % 60)) s)"
run-profile: release
	build/lcqat fetch techdocs
	build/lcqat sweep $(SPEC) -j $(JOBS)

# The figures and tables come from stored runs; nothing is computed again. TeX's own files stay in build/.
PUBLISHED := $(wildcard results/published.json)
BESIDE := $(if $(wildcard results/reference/$(PROFILE)/runs),--beside results/reference/$(PROFILE))
PDFLATEX = pdflatex -halt-on-error -interaction=nonstopmode -output-directory ../build/paper \
    -jobname main '\newcommand{\results}{../$(OUT)}\input{main.tex}' >../build/paper/main.out
paper: release ## rebuilds tables and figures, and paper/main.pdf where TeX is, from stored results
	@build/lcqat report $(OUT) $(PUBLISHED) --spec $(SPEC) --out $(OUT) $(BESIDE)
	@if ! test -f paper/main.tex; then echo "paper: no paper/main.tex: tables and figures only"; \
	elif ! command -v pdflatex >/dev/null; then \
	    echo "paper: no pdflatex (texlive-latex-recommended has it): tables and figures only"; \
	else mkdir -p build/paper && cd paper && \
	    ($(PDFLATEX) && $(PDFLATEX) || { tail -n 20 ../build/paper/main.out >&2; exit 1; }) && \
	    cp ../build/paper/main.pdf main.pdf && echo "paper: paper/main.pdf"; fi

LQ_SHARED ?= ../shared
export LQ_SHARED
GOLDEN ?= $(LQ_SHARED)/golden
# Where there are no golden cases, that is said and counted.
has_golden = $(and $(GOLDEN_SRC),$(wildcard $(GOLDEN)/index.json))
RUN_TESTS = tests/run.sh -j $(JOBS) $(if $(has_golden),,-s "golden: no cases in $(GOLDEN)")
unit-programs: $(UNIT_BIN)
long-programs: $(LONG_BIN) $(GOLDEN_BIN)
test: deps ## builds and runs every test; the last line counts them
	+@$(STAGE2) MODE=release BUILD=build/release all long-programs
	+@$(STAGE2) MODE=asan BUILD=build/asan unit-programs
	@LCQAT=build/lcqat $(RUN_TESTS) $(LONG_SRC:%.c=build/release/%) $(CLI_TESTS) \
	    $(if $(has_golden),"build/release/tests/golden/golden $(GOLDEN)") tests/check_layers.sh \
	    $(if $(CI),"tests/lint.sh --quick") $(UNIT_SRC:%.c=build/asan/%)
test-asan: deps ## runs every test program and the command line under the sanitizers
	+@$(STAGE2) MODE=asan BUILD=build/asan build/asan/lcqat unit-programs long-programs
	@LCQAT=build/asan/lcqat $(RUN_TESTS) -t 1200 $(patsubst %.c,build/asan/%,$(LONG_SRC) $(UNIT_SRC)) \
	    $(if $(has_golden),"build/asan/tests/golden/golden $(GOLDEN)") $(CLI_TESTS)
golden: deps ## GOLDEN=DIR: runs the golden cases of DIR, every deviation beside its tolerance
	@test -d "$(GOLDEN)" || { echo "golden: no folder $(GOLDEN); type: make golden GOLDEN=DIR" >&2; exit 2; }
	+@$(STAGE2) MODE=release BUILD=build/release build/release/tests/golden/golden
	@build/release/tests/golden/golden "$(GOLDEN)"
bench: release ## the performance suite
	build/lcqat bench

# Tokens that each teacher in the repository was trained on.
TOKENS_tiny-llama := 124M
TOKENS_tiny-qwen3 := 66M
TEACHERS := $(patsubst datasets/teachers/%.json,%,$(wildcard datasets/teachers/*.json))
teachers: release ## trains the small teacher models again (hours)
	build/lcqat fetch techdocs
	$(foreach t,$(TEACHERS),build/lcqat pretrain datasets/teachers/$(t).json --data techdocs \
	    --tokens $(TOKENS_$(t)) --out datasets/teachers/$(t) &&) true

lint: ## format, layers, forbidden words, a second compiler, clang-tidy, cppcheck, shellcheck
	@experiments/deps.sh $(NEED_BUILD) $(NEED_TEST) $(NEED_LINT)
	@LINT_FLAGS='$(DEFINES) -fopenmp $(WARN) -Werror $(PKG_CFLAGS)' tests/run.sh -t 3000 -j $(JOBS) tests/lint.sh
hooks: ## makes git run tests/precommit.sh before each commit
	@hooks=$$(git rev-parse --git-path hooks) && mkdir -p "$$hooks" && \
	    printf '#!/bin/sh\nexec tests/precommit.sh\n' > "$$hooks/pre-commit" && \
	    chmod +x "$$hooks/pre-commit" && echo "hooks: $$hooks/pre-commit"
clean: ## removes build/
	rm -rf build
