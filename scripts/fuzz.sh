#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other.
set -eu
time=${1:?usage: fuzz.sh TIME}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
  for target in $(grep -rhoE '^func Fuzz[A-Za-z0-9]+' "$dir"/*_test.go | awk '{print $2}' | sort -u); do
    echo "fuzz $dir $target $time"
    log=$(mktemp)
    # When the time is over while a worker is at it, go test may end with "context deadline exceeded" and
    # no failing input: that is the end of the time and nothing else.
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "$dir" >"$log" 2>&1 ||
      { grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input\|panic' "$log"; } ||
      { cat "$log"; exit 1; }
    rm -f "$log"
  done
done
