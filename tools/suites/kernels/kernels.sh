#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make kernels: every kernel of tools/kernels, one after the other: builds, layouts, selftests on our
# simulator (tools/suites/kernels/kernel-check.sh). Ends with a table, which README carries with its date.
#
#   NAMES="7.3 sid"	only these
#
# Kernels of class "report" are reported and never fail the run.
. "$(dirname "$0")/../../lib.sh"
set +e
need_root
mkdir -p "$BASE/logs"
rows=() failed=0
# shellcheck disable=SC2046
for name in ${NAMES:-$(kernel_names)}; do
	class=$(kernel_field "$name" class) || die "tools/kernels has no kernel $name"
	log=$BASE/logs/kernels-$name.log
	say "  ... kernel $name"
	"$PROJECT/tools/suites/kernels/kernel-check.sh" "$name" >"$log" 2>&1 </dev/null
	rc=$?
	ok=$(grep -cE '^ok ' "$log") bad=$(grep -cE '^not ok ' "$log") skip=$(grep -cE '^ok .*# SKIP' "$log")
	release=$(sed -nE 's/^# kernel .* is ([^,]+), .*/\1/p' "$log" | head -n 1)
	rustc=$(KERNEL=$name; use_kernel; sed -nE 's/^CONFIG_RUSTC_VERSION_TEXT="rustc ([^ ]+) .*/\1/p' "$CACHE/tree/.config" 2>/dev/null)
	if [ -z "$release" ]; then
		if [ $rc -eq 0 ]; then result='not whole in the archive'; else result="could not be prepared"; fi
	elif ! grep -q '^ok - modules build' "$log"; then result='modules do not build'
	elif ! grep -q '^ok - structure layouts' "$log"; then result='layouts differ'
	else result="$((ok - skip)) passed, $bad failed, $skip skipped"; fi
	[ $rc -eq 0 ] || [ "$class" = report ] || failed=1
	[ $rc -eq 0 ] || grep -E -A6 '^not ok ' "$log" | head -n 20 | sed 's/^/      | /'
	say "  $([ $rc -eq 0 ] && echo ok || echo '--')  kernel $name ($class): ${release:+$release: }$result"
	rows+=("| $name | ${release:--} | ${rustc:--} | $class | $result |")
done
say
say "| KERNEL= | release | rustc | class | selftests on the net simulator |"
say "|---|---|---|---|---|"
printf '%s\n' "${rows[@]}"
say
say "$(date +%F), tools/suites/kernels/kernels.sh; the logs are $BASE/logs/kernels-*.log"
exit $failed
