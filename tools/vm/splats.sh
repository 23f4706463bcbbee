#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Print the kernel's complaints in a log, with a few lines of what follows.
# Usage: splats.sh LOG  (status 0 if there are any)
#
# Only what comes after the line that run_script writes counts, if it is there:
# a slow emulated boot may stall without anybody's fault.
log=$1
if grep -q 'vm: the script starts' "$log"; then
	sed '1,/vm: the script starts/d' "$log"
else
	cat "$log"
fi | grep -aE -A12 'WARNING: |BUG: |BUG at |Oops|kernel panic|Kernel panic|general protection|stack segment|unable to handle|KASAN|KCSAN|KFENCE|UBSAN|unreferenced object|refcount_t|possible (circular|recursive|irq lock)|inconsistent lock state|suspicious RCU|sleeping function|scheduling while atomic|INFO: task .* blocked|INFO: rcu_|rcu: INFO|soft lockup|hard LOCKUP|Bad page|list_(add|del) corruption|double fault|rust_kernel: panic|panicked at'
