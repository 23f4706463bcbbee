#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Compare what two drivers made of the same tests.
#
#   selftests/compare.sh C-OUTPUT RUST-OUTPUT
#
# Both are outputs of run.sh with the same parent. Prints each test whose result
# differs, and says of each difference whether it is one that is meant: a test
# that is an expected failure, or not tried, on C and passes on Rust. Exit status
# 1 when there is another difference, or a test that only one of them ran.
#
# Which tests C fails depends on its version: the reason names those on which it was
# seen. One that a fixed C passes is the same on both, and counts as such.
set -eu
[ $# -eq 2 ] || { echo "usage: compare.sh C-OUTPUT RUST-OUTPUT" >&2; exit 2; }
exec awk '
	function result() {
		if (/^not ok/) return "fail"
		if (/ # SKIP/) return "skip"
		if (/ # XFAIL/) return "xfail"
		return "pass"
	}
	/^(not )?ok [0-9]/ {
		r = result()
		why = ""
		if (match($0, / # (SKIP|XFAIL) .*/))
			why = substr($0, RSTART + 3)
		sub(/^(not )?ok [0-9]+ /, "")
		sub(/ # .*/, "")
		if (FILENAME == ARGV[1]) { c[$0] = r; reason[$0] = why }
		else rust[$0] = r
		if (!($0 in seen)) { seen[$0] = 1; order[++n] = $0 }
	}
	END {
		for (i = 1; i <= n; i++) {
			t = order[i]
			if (!(t in c) || !(t in rust)) {
				printf "ONLY ONE  %s (%s)\n", t, (t in c) ? "C" : "Rust"
				bad++
			} else if (c[t] == rust[t]) {
				same++
			} else if (rust[t] == "pass" && c[t] != "fail" && reason[t] ~ /C (differs|waits)/) {
				printf "BETTER    %s (%s)\n", t, reason[t]
				better++
			} else {
				printf "DIFFERS   %s: C %s, Rust %s\n", t, c[t], rust[t]
				bad++
			}
		}
		printf "%d the same, %d better, %d different\n", same, better, bad
		exit bad > 0 || n == 0
	}' "$1" "$2"
