#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other.
set -eu
time=${1:?usage: fuzz.sh TIME}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
  for target in $(grep -rhoE '^func Fuzz[A-Za-z0-9]+' "$dir"/*_test.go | awk '{print $2}' | sort -u); do
    echo "fuzz $dir $target $time"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" >/tmp/leveret-fuzz.log 2>&1 || { cat /tmp/leveret-fuzz.log; exit 1; }
  done
done
