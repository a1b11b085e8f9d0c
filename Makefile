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

BIN       := bin/cloudtwin
ARTIFACTS := artifacts
CACHE     := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cloudtwin
LINT_VERSION = $(shell awk '$$1 ~ /golangci-lint\/v2$$/ { print $$2 }' .ci/lint/go.mod)
LINT      = $(CACHE)/tools/golangci-lint-$(LINT_VERSION)
GOTESTSUM := $(CACHE)/tools/gotestsum
SUMMARY   := $(CACHE)/tools/summary
PLUGINS   := $(CACHE)/tools/protoc-plugins

# A folder under e2e with a _suite_test.go boots guests and is run by ginkgo; everything else is go test's.
E2E_SUITES = $(patsubst %/,./%,$(sort $(dir $(wildcard e2e/*/*_suite_test.go))))
UNIT_PACKAGES = $$(go list ./... | grep -vxF "$$(printf 'github.com/cloudtwin/cloudtwin/%s\n' $(E2E_SUITES:./%=%))")

# The suites run once for each kind of guests in GUESTS; each kind has its suites and the labels of its specs. A small
# set is enough for what is the same on all.
GUESTS      ?= fork sim cold
FORK_SUITES ?= $(E2E_SUITES)
SIM_SUITES  ?= ./e2e/mainjob
COLD_SUITES ?= ./e2e/mainjob
FORK_LABELS ?= !sim
SIM_LABELS  ?= !kernel && !fork
COLD_LABELS ?= few
upper       = $(shell echo $1 | tr a-z A-Z)

# What one may change from the command line: make test GUESTS=sim LABELS='https' RUN=TestCreate UNIT_FLAGS=-v
LABELS     ?= !slow
RUN        ?= .
UNIT_FLAGS ?=
E2E_FLAGS  ?=
E2E_TIME   ?= 20m
FUZZTIME   ?= 10s
BENCHTIME  ?= 1s
ONLY       ?= .

.PHONY: help deps build images demo test unit e2e test-all fuzz lint bench generate vagrant-validate clean tools

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

unit: images tools ## unit and conformance tests only, with the race detector
	@mkdir -p $(ARTIFACTS); rm -f $(ARTIFACTS)/unit.*
	@$(GOTESTSUM) --format pkgname --hide-summary skipped \
		--junitfile $(ARTIFACTS)/unit.xml --jsonfile $(ARTIFACTS)/unit.json \
		-- -race -shuffle on -timeout 5m -run '$(RUN)' $(UNIT_FLAGS) $(UNIT_PACKAGES)

e2e: images ## the end-to-end suites on each kind of GUESTS (sim, fork, cold); LABELS picks specs
	@mkdir -p $(ARTIFACTS); rm -f $(ARTIFACTS)/e2e*
	@failed=0; for guests in $(GUESTS); do $(MAKE) e2e-$$guests || failed=1; done; exit $$failed

e2e-%: # the suites on one kind of guests
	@echo "== $* guests" >&2
	@CLOUDTWIN_GUESTS=$* CLOUDTWIN_BIN=$(abspath $(BIN)) go run github.com/onsi/ginkgo/v2/ginkgo \
		--label-filter='$(if $(LABELS),($(LABELS)) && )($($(call upper,$*)_LABELS))' \
		--keep-going --fail-on-pending --randomize-all --timeout $(E2E_TIME) \
		--output-dir $(ARTIFACTS) --junit-report e2e-$*.xml --json-report e2e-$*.json $(E2E_FLAGS) \
		$($(call upper,$*)_SUITES)

test-all: images tools ## make test, every spec on all kinds of guests, soak and repeated unit tests included, after fuzzing
	@$(MAKE) fuzz vagrant-validate
	@$(MAKE) test LABELS='' UNIT_FLAGS='-count=3 $(UNIT_FLAGS)' E2E_TIME=60m SIM_SUITES='./e2e/mainjob ./e2e/cli' \
		COLD_SUITES='./e2e/mainjob ./e2e/cli' COLD_LABELS='!sim && !fork'

fuzz: ## run every fuzz target for FUZZTIME, one after another
	@for package in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do \
		dir=$$(go list -f '{{.Dir}}' $$package); \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | cut -c6- || true); do \
			echo "fuzz $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

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
	@rm -rf bin $(ARTIFACTS) .cache

tools: $(GOTESTSUM) $(SUMMARY)

$(LINT): .ci/lint/go.mod .ci/lint/go.sum
	@echo "building golangci-lint $(LINT_VERSION), about two minutes the first time" >&2
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/lint -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(GOTESTSUM): .ci/tools/go.mod .ci/tools/go.sum
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/tools -o $@ gotest.tools/gotestsum
	@touch $@

$(SUMMARY): .ci/tools/summary/main.go
	@mkdir -p $(@D)
	@GOFLAGS=-buildvcs=false go build -C .ci/tools -o $@ ./summary
	@touch $@
