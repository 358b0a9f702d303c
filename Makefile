# Leveret. `make help` lists the targets. As root on a fresh Debian machine with Go, `make test`
# installs what the tests need and runs them all.
SHELL := /bin/bash
GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 1s

.PHONY: help build run test long deps check race norace lint fuzz bench e2e cover clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/leveret, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/leveret ./cmd/leveret

run: build ## the appliance on the built-in configuration (TUN leveret0), until Ctrl-C; needs root
	bin/leveret run

test: deps check race fuzz ## everything at short durations (under 15 minutes)

long: deps check ## everything at full durations (under 60 minutes)
	LVT_LONG=1 $(GO) test -race -timeout 50m $$($(GO) list ./... | grep -v /test/interop)
	LVT_LONG=1 $(GO) test -race -timeout 50m ./test/interop/...
	$(MAKE) norace
	scripts/fuzz.sh 15s 60s ./extensions/xfrm/esp ./extensions/xfrm/ah ./extensions/xfrm/selector

deps: ## install what the tests need (Debian, as root; otherwise says what is missing)
	scripts/deps.sh

check: ## formatting and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...

race: ## all tests with the race detector
	$(GO) test -race -timeout 14m $$($(GO) list ./... | grep -v /test/interop)
	$(GO) test -race -timeout 14m ./test/interop/... # by itself: its VM takes the processors that packets of the others need
	$(MAKE) norace

norace: ## what the race detector cannot run
	$(GO) test ./cmd/... # the command scripts run as processes of their own, without it
	$(GO) test -run TestChangesAreVisibleAtOnce ./extensions/policyroute
	$(GO) test -run Alloc ./appliance/netstack # it makes pools forget, so allocations are counted without it

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

lint: ## golangci-lint, at the version pinned here
	$(GO) run $(GOLANGCI) run ./...

e2e: deps ## only the tests against Linux kernels, in network namespaces and in a VM; needs root
	$(GO) test -race -count=1 -timeout 14m ./test/e2e/... ./test/interop/... ./appliance/link/...

bench: build ## compare with the kernel, netstack, wireguard-go and strongSwan, which it installs; needs root
	test/bench/peers.sh
	$(GO) run ./test/bench

cover: ## coverage by function
	$(GO) test -coverprofile=/tmp/leveret-cover.out ./... && $(GO) tool cover -func=/tmp/leveret-cover.out

clean: ## remove what was built
	rm -rf bin dist
