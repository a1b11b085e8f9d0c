# cloudtwin: a cloud in a box. `make help` lists the targets; `make demo` shows the main job, `make test` proves it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# libvirt is opened at run time, so the binary builds and starts on a machine that has none.
ifeq (,$(findstring libvirt_dlopen,$(GOFLAGS)))
export GOFLAGS := $(strip $(GOFLAGS) -tags=libvirt_dlopen)
endif
export GOTOOLCHAIN ?= local
# Where the guest images are, for the tests that boot machines.
export CLOUDTWIN_IMAGES ?= $(CACHE)/images
# How long Gomega's Eventually waits where it is not told: a busy machine may stand still for longer than its own second.
export GOMEGA_DEFAULT_EVENTUALLY_TIMEOUT ?= 60s

BIN       := bin/cloudtwin
ARTIFACTS := artifacts
CACHE     := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cloudtwin
LINT_VERSION = $(shell awk '$$1 ~ /golangci-lint\/v2$$/ { print $$2 }' .ci/lint/go.mod)
LINT      = $(CACHE)/tools/golangci-lint-$(LINT_VERSION)
GOTESTSUM := $(CACHE)/tools/gotestsum
SUMMARY   := $(CACHE)/tools/summary
PLUGINS   := $(CACHE)/tools/protoc-plugins
GINKGO    := $(CACHE)/tools/ginkgo-$(shell awk '$$1 ~ /onsi\/ginkgo\/v2$$/ { print $$2 }' go.mod)
SUITES    := bin/suites

# A folder under e2e with a _suite_test.go boots guests and is run by ginkgo; everything else is go test's. The package
# that boots machines takes longest and comes first.
E2E_SUITES = $(patsubst %/,./%,$(sort $(dir $(wildcard e2e/*/*_suite_test.go))))
UNIT_PACKAGES = ./node/hypervisor/libvirt \
	$$(go list ./... | grep -vxF "$$(printf 'github.com/cloudtwin/cloudtwin/%s\n' $(E2E_SUITES:./%=%))")

# The suites run once for each kind of guests in GUESTS; each kind has its suites and the labels of its specs. A small
# set is enough for what is the same on all; what waits for the clock (patient) runs on simulated guests by day. Suites of
# simulated guests mostly wait, so each runs in two processes with clouds of their own.
GUESTS      ?= fork sim cold
FORK_SUITES ?= $(addprefix ./e2e/,badinput chaos fidelity forks harness identity leaks mainjob original replay soak threats)
SIM_SUITES  ?= $(addprefix ./e2e/,accounts chaos cli clients harness identity mainjob nodes replay report threats)
COLD_SUITES ?= ./e2e/mainjob ./e2e/daemon
FORK_PROCS  ?= 1
SIM_PROCS   ?= 2
COLD_PROCS  ?= 1
FORK_LABELS ?= !sim && !patient
SIM_LABELS  ?= !kernel && !fork
COLD_LABELS ?= few
upper       = $(shell echo $1 | tr a-z A-Z)

# What one may change from the command line: make test GUESTS=sim LABELS='https' RUN=TestCreate UNIT_FLAGS=-v
LABELS     ?= !slow
RUN        ?= .
UNIT_FLAGS ?=
E2E_FLAGS  ?=
E2E_TIME   ?= 40m
FUZZTIME   ?= 10s
BENCHTIME  ?= 1s
ONLY       ?= .
CHAOS_SEEDS ?= 200

.PHONY: help chaos growth deps build images demo test unit e2e suites test-all mutation fuzz fuzz-nightly lint bench generate vagrant-validate clean tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing on this machine (Debian packages; says so first)
	@.ci/deps

build: deps ## build bin/cloudtwin
	@go build -o $(BIN) ./cloud/cmd/cloudtwin

images: build ## build the guest images; nothing is rebuilt that has not changed
	@$(BIN) image build --images $(CLOUDTWIN_IMAGES)

demo: images ## the main job: a guest serves TLS with a key that came by floppy
	@$(BIN) demo --images $(CLOUDTWIN_IMAGES)

test: images tools ## everything that a change must pass: unit and conformance tests with the race detector, then guests of all GUESTS
	@failed=0; \
	$(MAKE) unit || failed=1; \
	$(MAKE) e2e || failed=1; \
	$(SUMMARY) $(ARTIFACTS)/unit.xml $(GUESTS:%=$(ARTIFACTS)/e2e-%.xml) || failed=1; \
	exit $$failed

# Some packages wait for machines more than they compute, so one more than there are processors runs at a time.
unit: images tools ## unit and conformance tests only, with the race detector
	@mkdir -p $(ARTIFACTS); rm -f $(ARTIFACTS)/unit.*
	@CLOUDTWIN_BIN=$(abspath $(BIN)) $(GOTESTSUM) --format pkgname --hide-summary skipped,output \
		--junitfile $(ARTIFACTS)/unit.xml --jsonfile $(ARTIFACTS)/unit.json \
		-- -race -shuffle on -timeout 15m -p $$(($$(nproc) + 1)) -run '$(RUN)' $(UNIT_FLAGS) $(UNIT_PACKAGES)

e2e: images suites ## the end-to-end suites on each kind of GUESTS (sim, fork, cold); LABELS picks specs
	@mkdir -p $(ARTIFACTS); rm -f $(ARTIFACTS)/e2e*
	@failed=0; for guests in $(GUESTS); do $(MAKE) e2e-$$guests || failed=1; done; exit $$failed

# Compiled once for all kinds of guests, without what only debuggers read: linking takes longest. Ginkgo runs a suite
# in the folder that its binary lies in.
suites: $(GINKGO)
	@go test -c -vet=off -ldflags '-s -w' -o $(SUITES)/ $(E2E_SUITES)
	@for dir in $(E2E_SUITES); do mv -f $(SUITES)/$$(basename $$dir).test $$dir/; done

e2e-%: # the suites on one kind of guests, after 'make suites'
	@echo "== $* guests" >&2
	@CLOUDTWIN_GUESTS=$* CLOUDTWIN_BIN=$(abspath $(BIN)) $(GINKGO) \
		--label-filter='$(if $(LABELS),($(LABELS)) && )($($(call upper,$*)_LABELS))' \
		--procs $($(call upper,$*)_PROCS) --keep-going --fail-on-pending --randomize-all --timeout $(E2E_TIME) \
		--output-dir $(ARTIFACTS) --junit-report e2e-$*.xml --json-report e2e-$*.json $(E2E_FLAGS) \
		$(foreach dir,$($(call upper,$*)_SUITES),$(dir)/$(notdir $(dir)).test)

test-all: images tools ## make test, every spec on all kinds of guests, soak and repeated unit tests included, after fuzzing
	@$(MAKE) fuzz vagrant-validate mutation chaos growth
	@$(MAKE) test LABELS='' UNIT_FLAGS='-count=3 $(UNIT_FLAGS)' E2E_TIME=60m FORK_SUITES='$(E2E_SUITES)' \
		FORK_LABELS='!sim' COLD_SUITES='./e2e/mainjob ./e2e/cli ./e2e/daemon' COLD_LABELS='!sim && !fork'

chaos: build ## random faults of CHAOS_SEEDS seeds on simulated guests: what must never break does not
	@$(BIN) chaos --guests sim --log error --seeds $(CHAOS_SEEDS) --minutes 0.02 --parallel 2 --output $(ARTIFACTS)/chaos

growth: build ## what a guest costs does not grow with their number
	@$(BIN) scale --log error --nodes 100 --load-balancers 2000 --steps 500,1000,2000 --max-growth 1.25

mutation: ## take each check of the key delivery out in turn: the attacks of e2e/threats must notice; ONLY picks
	@go run ./e2e/threats/mutate --only '$(ONLY)'

fuzz: ## run every fuzz target for FUZZTIME, one after another
	@failed=; for package in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do \
		dir=$$(go list -f '{{.Dir}}' $$package); \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | cut -c6- || true); do \
			echo "fuzz $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$package || \
				failed="$$failed $${package##*/}.$$target"; \
		done; \
	done; \
	[ -z "$$failed" ] || { echo "fuzz: these targets failed:$$failed" >&2; exit 1; }

fuzz-nightly: ## every fuzz target for ten minutes
	@$(MAKE) fuzz FUZZTIME=10m

lint: $(LINT) ## golangci-lint as pinned in .ci/lint, and gofmt
	@$(LINT) run ./...

bench: images ## benchmarks: go's own, then starts, density, scale, deliveries and API rates, each beside its limit; ONLY picks
	@mkdir -p $(ARTIFACTS)
	@[ '$(ONLY)' != . ] || go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./cloud/... ./node/... ./lbvm-image/... | \
		grep -vE '^(\?|PASS|ok .*\[no test)' | tee $(ARTIFACTS)/go-bench.txt
	@CLOUDTWIN_BIN=$(abspath $(BIN)) go run ./e2e/bench --images $(CLOUDTWIN_IMAGES) --output $(ARTIFACTS)/bench.json --only '$(ONLY)'

generate: ## generate the wire types again (AWS models, protobuf)
	@.ci/deps protobuf-compiler
	@mkdir -p $(PLUGINS)
	@go build -o $(PLUGINS)/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@PATH=$(PLUGINS):$$PATH go generate ./...

vagrant-validate: ## check vagrant/Vagrantfile (installs vagrant and its libvirt provider; starts no machine)
	@.ci/deps vagrant vagrant-libvirt
	@home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; \
	cd vagrant && VAGRANT_HOME=$$home VAGRANT_DEFAULT_PROVIDER=libvirt vagrant validate

clean: ## remove what was built here; caches outside the tree stay
	@rm -rf bin $(ARTIFACTS) .cache e2e/*/*.test

tools: $(GOTESTSUM) $(SUMMARY)

# The names of these two hold their versions, so that a new clone does not build them again.
$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), about two minutes the first time" >&2
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/lint -o $@.new github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@mv $@.new $@

$(GOTESTSUM): .ci/tools/go.mod .ci/tools/go.sum
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/tools -o $@ gotest.tools/gotestsum
	@touch $@

$(GINKGO):
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -o $@.new github.com/onsi/ginkgo/v2/ginkgo
	@mv $@.new $@

$(SUMMARY): .ci/tools/summary/main.go
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/tools -o $@ ./summary
	@touch $@
