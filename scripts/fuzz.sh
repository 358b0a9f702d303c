#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other; those of the packages named for
# the other time.
set -eu
usage='usage: fuzz.sh TIME [TIME PACKAGE...]'
time=${1:?$usage}
shift
other=${1:-$time}
[ $# -eq 0 ] || shift
packages=" $* "
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
  now=$time
  case $packages in *" $dir "*) now=$other ;; esac
  for target in $(grep -rhoE '^func Fuzz[A-Za-z0-9]+' "$dir"/*_test.go | awk '{print $2}' | sort -u); do
    echo "fuzz $dir $target $now"
    log=$(mktemp)
    # When the time is over while a worker is at it, go test may end with "context deadline exceeded" and
    # no failing input: that is the end of the time and nothing else.
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$now" -fuzzminimizetime 1x "$dir" >"$log" 2>&1 ||
      { grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input\|panic' "$log"; } ||
      { cat "$log"; exit 1; }
    rm -f "$log"
  done
done
