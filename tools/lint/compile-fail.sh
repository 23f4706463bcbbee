#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Parents whose ops do not belong together must not compile: tools/lint/compile-fail/*.rs,
# one TAP line a file. The second line of a file says "builds", or "fails: MESSAGE" with
# the words that the compiler must say. Those that build show that the others
# fail for no other reason.
#
# The compiler gets the flags of a parent's module, as Kbuild wrote them down, and stops
# after its checks; it generates no code.
# Usage: compile-fail.sh [CASE...]
. "$(dirname "$0")/../lib.sh"
need_root

[ $# -gt 0 ] || set -- $(cd "$PROJECT/tools/lint/compile-fail" && for f in *.rs; do
	[ "$f" = root.rs ] || echo "${f%.rs}"
done)
[ $# -gt 0 ] || die "there are no cases"
step "modules" "$PROJECT/tools/build/build.sh" modules

in_root bash -s "$@" <<'IN_ROOT'
export RUSTC_BOOTSTRAP=1
out=$(mktemp -d)
# All up to what says where the output goes.
command=$(sed -nE 's/^savedcmd_[^ ]* := (.*) --out-dir .*/\1/p' /cache/build/vdpa_sim/.net.o.cmd)
[ -n "$command" ] || { echo "Bail out! no command of the compiler"; exit 1; }
cd /cache/build

compile() { # compile CASE
	CASE=/cache/build/tools/lint/compile-fail/$1.rs sh -c "$command --extern vdpa_bus_driver --crate-name compile_fail --out-dir $out/$1.d \
		--emit=metadata tools/lint/compile-fail/root.rs" >"$out/$1" 2>&1
	echo $? >"$out/$1.rc"
}
export command out
export -f compile
printf '%s\n' "$@" | xargs -P "$(nproc)" -I {} bash -c 'compile {}'

n=0 failed=0
verdict() { # verdict STATUS CASE
	n=$((n + 1))
	[ "$1" -ne 0 ] || { echo "ok $n - compile-fail: $2"; return; }
	failed=1
	echo "not ok $n - compile-fail: $2"
	{ grep -A 12 "^error" "$out/$case" || cat "$out/$case"; } | head -n 40 | sed 's/^/# | /'
}
echo 'TAP version 13'
for case; do
	rc=$(cat "$out/$case.rc")
	want=$(sed -n '2s,^// ,,p' "tools/lint/compile-fail/$case.rs")
	case $want in
	builds)
		[ "$rc" -eq 0 ] && [ ! -s "$out/$case" ]
		verdict $? "$case builds" ;;
	fails:*)
		# One error, and the one that was meant.
		[ "$rc" -eq 1 ] && grep -qF -- "${want#fails: }" "$out/$case" &&
			[ "$(grep -c '^error\[' "$out/$case")" -eq 1 ]
		verdict $? "$case is refused" ;;
	*)	verdict 1 "$case says what is expected" ;;
	esac
done
echo "1..$n"
rm -rf "$out"
exit $failed
IN_ROOT
