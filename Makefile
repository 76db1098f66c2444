# SPDX-License-Identifier: GPL-2.0-only
#
# The front door.  The steps themselves are Python (harness/schedlab/build, each cached by the content of its inputs) and
# CMake (all C++).  Everything below can be overridden in local.mk, on the command line, or in the environment.

-include local.mk

XEN       ?= 4.17
BUILD     ?= $(CURDIR)/build
LOCK      ?= $(CURDIR)/harness/lock.toml
PACKAGES  ?= $(CURDIR)/harness/packages.txt
DOWNLOADS ?=
QEMU      ?=
JOBS      ?= $(shell nproc)
SCENARIO  ?= ten_percent
TIER      ?= test
A         ?= stock
B         ?= patched
PYTHON    ?= /usr/bin/python3
PYTEST    ?=

# ccache compiles a file once for all variants and clones of one folder.
export CCACHE_DIR          ?= $(BUILD)/ccache
export NEMESIS_BUILD       := $(BUILD)
export NEMESIS_LOCK        := $(LOCK)
export NEMESIS_DOWNLOADS   := $(DOWNLOADS)
export NEMESIS_QEMU        := $(QEMU)
export NEMESIS_JOBS        := $(JOBS)
export PYTHONPATH          := $(CURDIR)/harness
export PYTHONDONTWRITEBYTECODE := 1
export XEN PACKAGES DRY TIER NO_CACHE ACCEL

# Under DRY=1 even rm is only said.
SAY  = $(if $(filter-out 0,$(DRY)),echo )
STEP = @$(PYTHON) -m schedlab.build --xen $(XEN)

.DEFAULT_GOAL := help
.PHONY: help
help:
	@echo 'Scheduling domains for Xen, and the lab that proves them.'
	@echo
	@sed -n 's/^\([a-z0-9.-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'DRY=1 prints commands instead of running them.  XEN=$(XEN) is the base.  local.mk overrides, now:'
	@printf '  %-9s = %s\n' BUILD '$(BUILD)' LOCK '$(LOCK)' PACKAGES '$(PACKAGES)' DOWNLOADS '$(DOWNLOADS)' \
	    QEMU '$(QEMU)' JOBS '$(JOBS)' SCENARIO '$(SCENARIO)' TIER '$(TIER)' PYTHON '$(PYTHON)'

# --- the two commands ----------------------------------------------------------------------------------------------

.PHONY: run test
run: build ## everything from nothing, then the main experiment (SCENARIO=…, ARGS=…)
	@harness/lab run $(SCENARIO) --xen $(XEN) $(ARGS)

test: lint ctest ## style, unit tests, then the acceptance matrix (TIER=smoke|test|full, NO_CACHE=1)
ifneq ($(TIER),smoke)
	$(STEP) check-patches all
endif
	@$(call PYTEST_AND_MATRIX,$(TIER),$(MARKERS_$(TIER)),)

.PHONY: accept bless
accept: setup ## the acceptance matrix alone (TIER=…, NO_CACHE=1, ARGS='--shard 2/5 --seeds 3')
	@harness/lab accept --tier $(TIER) --jobs $(JOBS) --junit $(BUILD)/junit-$(TIER).xml $(ARGS)

bless: setup ## accept the smoke tier's exact results as they are now: results/golden.toml
	@harness/lab bless --jobs $(JOBS) $(ARGS)

.PHONY: shell
shell: setup ## a shell in dom0, with xl, nemesis, Python  (SCHEDULER=credit2, PCPUS=1)
	@harness/lab shell --xen $(XEN) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(PCPUS),--pcpus $(PCPUS))

# A side is said in `lab compare --help`: stock, patched, credit, 4.20, @HEAD~3, shift=7, xen:OPTION, a run's folder.
.PHONY: compare
compare: setup ## two sides in the same cases: A=stock B=patched (SCENARIO=…, ARGS=…)
	@harness/lab compare $(SCENARIO) --a $(A) --b $(B) --xen $(XEN) $(ARGS)

.PHONY: bench headline index picture clean-results
bench: setup ## what operations cost, in instructions: domctls, event channels, schedule() (ARGS=…)
	@harness/lab bench --xen $(XEN) $(ARGS)

headline: setup ## what groups are worth, against stock and against Linux, in one page (ARGS=…)
	@harness/lab headline --xen $(XEN) $(ARGS)

index: ## results/index.html: the runs that are there
	@harness/lab report

picture: ## draw the README's picture again, from results/reference/headline.json
	@harness/lab report --picture

clean-results: ## remove every run; the reference stays
	@$(SAY)find results -mindepth 1 -maxdepth 1 -not -name README.md -not -name golden.toml -not -name reference -exec rm -rf {} +

S ?= $(SCENARIO)
.PHONY: dev gdb
dev: setup ## edit Xen, a guest or the scenario, and see the table again (S=scenario, ARGS='--pcpus 1')
	@harness/lab dev $(S) --xen $(XEN) $(ARGS)

gdb: setup ## stop a scenario in the hypervisor, with GDB (S=scenario, T=1.5s, B=function or file:line)
	@harness/lab gdb $(S) --xen $(XEN) $(if $(T),--at $(T)) $(if $(B),--stop $(B)) $(ARGS)

# For instance make kvm-host C='bench --scheduler credit2': the paths that KVM takes, where there is none.
C ?= probe
.PHONY: kvm-host
kvm-host: build ## a command of the lab on an emulated host with KVM, in real time (C='bench')
	@harness/lab kvm-host $(C)

.PHONY: mutants
mutants: setup ## break the series in many small ways: which test catches it?  (M=name for one)
	@harness/lab mutants $(M) --xen $(XEN) $(ARGS)

.PHONY: test-4.20
test-4.20: setup ## the second base: its series, then the acceptance tests that run on every base
	@$(PYTHON) -m schedlab.build --xen 4.20 check-patches
	$(STEP) --xen 4.20 all
	@$(call PYTEST_AND_MATRIX,4.20,base420 and not slow,--tier full --xen 4.20)

# --- building ------------------------------------------------------------------------------------------------------

.PHONY: setup build fetch fetch-xen xen tools kernel qemu guests image
setup: ## install the packages of harness/packages.txt that are missing
	@harness/setup

build: setup ## everything a run boots
	$(STEP) all

fetch: setup ## download and verify: Xen, the kernel's source, QEMU
	$(STEP) fetch-xen fetch-kernel qemu

fetch-xen: setup
	$(STEP) fetch-xen

xen: setup ## the hypervisor, patched and stock
	$(STEP) --variant stock xen
	$(STEP) --variant patched xen

tools: setup ## libxenctrl and libxenguest, from the patched source
	$(STEP) tools

kernel: setup ## dom0's kernel
	$(STEP) kernel

qemu: setup ## the pinned QEMU
	$(STEP) qemu

guests: setup ## guests and controller
	$(STEP) guests

image: setup ## dom0's initramfs
	$(STEP) image

# --- the series ----------------------------------------------------------------------------------------------------

.PHONY: xen-tree patches check-patches
xen-tree: setup ## a git tree of Xen with the series as commits, to edit: build/xen-<base>
	$(STEP) xen-tree

patches: ## write the commits of that tree to hypervisor/<base>/
	$(STEP) patches

check-patches: setup ## prove that the series applies, is stable, and reproduces that tree
	$(STEP) check-patches

# --- tests ---------------------------------------------------------------------------------------------------------

# The tiers are the matrix's (harness/scenarios/README.md).  Of the other tests smoke takes those that boot nothing; full adds
# what takes minutes, and the second base.
MARKERS_smoke := not acceptance and not slow
MARKERS_test  := not slow and not base420
MARKERS_full  :=
ifeq ($(filter $(TIER),smoke test full),)
  $(error TIER is $(TIER), and must be smoke, test or full)
endif
# Side by side by processes; each of them then runs one machine at a time.
PYTEST_RUN = cd harness && $(PYTHON) -m pytest -p no:cacheprovider $(if $(filter-out 1,$(JOBS)),-n $(JOBS))

# (name, markers, the matrix's options): both run, whatever comes of the first; one JUnit file has both, and the last line
# counts both.
define PYTEST_AND_MATRIX
rm -f $(BUILD)/junit-$(1).xml $(BUILD)/junit-pytest-$(1).xml; status=0; \
($(PYTEST_RUN) -m '$(2)' --junitxml $(BUILD)/junit-pytest-$(1).xml $(PYTEST)) || status=$$?; \
harness/lab accept $(or $(3),--tier $(1)) --jobs $(JOBS) --junit $(BUILD)/junit-$(1).xml \
    --add-junit $(BUILD)/junit-pytest-$(1).xml || status=$$?; exit $$status
endef

CTEST_DIR := $(BUILD)/trees/ctest
CXX_FILES  = $(shell git ls-files --cached --others --exclude-standard guests hypervisor/tests | grep -E '\.(cpp|hpp)$$')
PY_FILES   = harness/lab harness/schedlab $(wildcard harness/tests)
SH_FILES  := harness/setup harness/schedlab/build/answers.sh .ci/run images/toolstack/init images/kvm-host/init images/toolstack/stub-console harness/tests/toolstack/*.sh

.PHONY: unit ctest configure-ctest pytest
unit: ctest pytest ## unit tests alone: no machine is booted

pytest: setup
	@$(PYTEST_RUN) -q -m '$(MARKERS_smoke)' $(PYTEST)

ctest: configure-ctest ## the unit tests of all C++, by CMake
	@cmake --build $(CTEST_DIR) -j$(JOBS) -- --quiet
	@ctest --test-dir $(CTEST_DIR) --output-on-failure -j$(JOBS) | tail -n 4

# The scheduler's arithmetic is tested in the patched source itself.
configure-ctest: setup
	@$(PYTHON) -m schedlab.build --xen $(XEN) xen-source >/dev/null
	@grep -qsx 'CMAKE_CACHEFILE_DIR:INTERNAL=$(CTEST_DIR)' $(CTEST_DIR)/CMakeCache.txt || rm -rf $(CTEST_DIR) # moved
	@cmake -G Ninja -S . -B $(CTEST_DIR) -DNEMESIS_HOST_TESTS_ONLY=ON \
	    -DXEN_SOURCE=$(BUILD)/trees/xen-$(XEN)-patched \
	    -DCMAKE_CXX_COMPILER_LAUNCHER=$(if $(shell command -v ccache),ccache) >$(CTEST_DIR).log 2>&1 || \
	    { tail -n 20 $(CTEST_DIR).log; exit 2; }

# --- style ---------------------------------------------------------------------------------------------------------

.PHONY: lint lint-python lint-cxx lint-shell format
lint: lint-python lint-shell lint-cxx ## clang-format, clang-tidy, cppcheck, black, flake8, mypy, shellcheck

lint-python: setup
	@black --check --quiet $(PY_FILES) || { black --check $(PY_FILES); exit 1; }
	@flake8 $(PY_FILES)
	@mypy --strict --no-error-summary --cache-dir $(BUILD)/mypy harness/schedlab

lint-shell: setup
	@shellcheck $(wildcard $(SH_FILES))

# clang-tidy is the slow one: it looks at what both builds compile without Xen, and again only at what changed.
lint-cxx: configure-ctest
	@clang-format --dry-run -Werror $(CXX_FILES)
	@cppcheck --quiet --std=c++20 --language=c++ --library=googletest --enable=warning,performance,portability \
	    --inline-suppr --suppress=missingIncludeSystem \
	    --error-exitcode=1 --cppcheck-build-dir=$(CPPCHECK_DIR) $(CXX_FILES)
	@$(MAKE) -s --no-print-directory -j$(JOBS) $(TIDY_STAMPS)

CPPCHECK_DIR = $(shell mkdir -p $(BUILD)/trees/cppcheck && echo $(BUILD)/trees/cppcheck)
TIDY_STAMPS  = $(patsubst %,$(BUILD)/trees/tidy/%.ok,$(filter guests/controller/logic/%.cpp guests/nemesis/logic/%.cpp,$(CXX_FILES)))
$(BUILD)/trees/tidy/%.ok: % .clang-tidy $(wildcard guests/include/nemesis/* guests/*/logic/*.hpp guests/bare_metal/*.hpp)
	@mkdir -p $(@D)
	@clang-tidy --quiet -p $(CTEST_DIR) --warnings-as-errors='*' $< 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

format: ## rewrite sources as the formatters want them
	@black --quiet $(PY_FILES)
	@clang-format -i $(CXX_FILES)

# --- cleaning ------------------------------------------------------------------------------------------------------

.PHONY: clean distclean
clean: ## remove what is made, except downloads, ccache and build/xen-<base>
	@$(SAY)rm -rf $(BUILD)/trees $(BUILD)/logs $(BUILD)/apt $(BUILD)/mypy
	@$(SAY)find $(BUILD)/store -mindepth 1 -maxdepth 1 -not -name 'fetch-*' -exec rm -rf {} + 2>/dev/null || true

distclean: ## remove the whole build folder, your tree of Xen in it too
	@$(SAY)rm -rf $(BUILD)
