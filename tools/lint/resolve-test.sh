#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# How set-up chooses a kernel and what it says, tried on made-up package lists and a made-up table, so
# that the day on which it matters is not the first: one TAP line a case.
set -euo pipefail
PROJECT=$(cd "$(dirname "$0")/../.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
KERNELS=$work/kernels
cat >"$KERNELS" <<'TABLE'
root    stable  stable  gcc-1  1   yes
kernel  9.3     default nothing stable  ports  9.3  amd64
kernel  9.2     default some    stable  ports  9.2  amd64
kernel  9.3-rt  extra   some    stable  ports  9.3  rt-amd64
kernel  rolling report  nothing stable  roll   *    amd64
TABLE
. "$PROJECT/tools/table.sh"

package() { printf 'Package: %s\nVersion: %s\nFilename: pool/x.deb\n\n' "$1" "$2"; }
# kernel ABI VERSION SERIES [PART...]: the packages of one kernel, or only those parts.
kernel() {
	local abi=$1 version=$2 series=$3 flavour part
	shift 3
	[ $# -gt 0 ] || set -- image headers source
	for part; do
		case $part in
		source) package "linux-source-$series" "$version" ;;
		*)	for flavour in amd64 rt-amd64 cloud-amd64; do
				package "linux-$part-$abi-$flavour" "$version"
			done ;;
		esac
	done
}

n=0 failed=0
is() { # is WANTED WHAT GOT...
	local want=$1 what=$2
	shift 2
	n=$((n + 1))
	if [ "$*" = "$want" ]; then echo "ok $n - resolve: $what"; else
		echo "not ok $n - resolve: $what"
		echo "# wanted '$want', got '$*'"
		failed=1
	fi
}
choice() { choose_kernel "$work/list" "${1:-}" || echo none; }

{ kernel 9.2.12+deb1 9.2.12-1 9.2; kernel 9.3.4+deb1 9.3.4-1 9.3; package linux-image-amd64 9.3.4-1; } >"$work/list"
is '9.3 9.3.4-1 9.3.4+deb1 9.3 supported' 'the newest supported series that is complete' "$(choice)"
is '9.3.4-1 9.3.4+deb1 9.3' 'a flavour has packages of its own' "$(newest_kernel "$work/list" 9.3-rt)"
is '9.2.12-1 9.2.12+deb1 9.2' 'KERNEL= of an older series' "$(newest_kernel "$work/list" 9.2)"
is '9.3.4-1 9.3.4+deb1 9.3' 'a line without a series takes the newest' "$(newest_kernel "$work/list" rolling)"

{ kernel 9.3.9+deb1 9.3.9-1 9.3; kernel 9.3.10+deb1 9.3.10-1 9.3; } >"$work/list"
is '9.3 9.3.10-1 9.3.10+deb1 9.3 supported' 'the newest point release, by number and not by letter' "$(choice)"

{ kernel 9.3.9+deb1 9.3.9-1 9.3; kernel 9.3.10+deb1 9.3.10-1 9.3 image headers; } >"$work/list"
is '9.3 9.3.9-1 9.3.9+deb1 9.3 supported' 'a point release being published: the one before it' "$(choice)"

{ kernel 9.2.12+deb1 9.2.12-1 9.2; kernel 9.3.4+deb1 9.3.4-1 9.3 image source; } >"$work/list"
is '9.2 9.2.12-1 9.2.12+deb1 9.2 supported' 'the newest series lacks headers: the older one' "$(choice)"
is '' 'KERNEL= of a series that is not whole finds nothing' "$(newest_kernel "$work/list" 9.3)"

{ kernel 9.2.12+deb1 9.2.12-1 9.2 image; kernel 9.4.1+deb1 9.4.1-1 9.4; kernel 9.5.1+deb1 9.5.1-1 9.5
  kernel 9.1.1+deb1 9.1.1-1 9.1; } >"$work/list"
is '9.5 9.5.1-1 9.5.1+deb1 9.5 untried' 'only newer series: the newest of them, untried' "$(choice)"
is '9.5 9.5.1-1 9.5.1+deb1 9.5 untried' 'the same beside a cache, which is what a run keeps anyway' "$(choice 9.3)"
{ kernel 9.10.1+deb1 9.10.1-1 9.10; } >"$work/list"
is '9.10 9.10.1-1 9.10.1+deb1 9.10 untried' 'series are compared by number' "$(choice)"

{ kernel 9.1.1+deb1 9.1.1-1 9.1; kernel 9.2.12+deb1 9.2.12-1 9.2 image; } >"$work/list"
is none 'only older series, and no cache' "$(choice)"
is '9.3 - - - cached' 'only older series: the cache' "$(choice '9.2 9.3')"
is '9.5 - - - cached' 'only older series: a cache of a kernel that was untried' "$(choice 9.5)"
: >"$work/list"
is none 'an archive without a kernel, and no cache' "$(choice)"
is '9.2 - - - cached' 'an archive without a kernel: the cache' "$(choice 9.2)"

{ kernel 9.3 '9.3~rc7-1~exp1' 9.3; } >"$work/list"
is '9.3~rc7-1~exp1 9.3 9.3' 'a release candidate' "$(newest_kernel "$work/list" rolling)"
{ package linux-image-9.3.4+deb1-cloud-amd64 9.3.4-1; package linux-headers-9.3.4+deb1-amd64 9.3.4-1
  package linux-source-9.3 9.3.4-1; } >"$work/list"
is none 'the image of another flavour does not count' "$(choice)"
{ package linux-image-9.3.4+deb1-amd64 9.3.4-1; package linux-headers-9.3.4+deb1-amd64 9.3.4-1
  package linux-source-9.3 9.3.3-1; } >"$work/list"
is none 'source of another version does not count' "$(choice)"
is '9.3 (image+headers+source)' 'what there is, in words' "$(seen_series "$work/list" amd64)"

is '9.3 9.2' 'series that the table names' "$(supported_series | tr '\n' ' ' | sed 's/ $//')"
is '9.2 9.3-rt' 'kernels that make check looks at' "$(kernel_names check=some | tr '\n' ' ' | sed 's/ $//')"
is 'rt-amd64' 'a field of the table' "$(kernel_field 9.3-rt flavour)"
is 'gcc-1' 'a field of a root' "$(root_field stable cc)"
is 'no' 'a kernel that the table does not have' "$(kernel_field 8.1 class || echo no)"
# --- the whole of set-up, with stand-ins for what needs an archive, a root and a compiler
mkdir -p "$work/project" "$work/lists"
cp -a "$PROJECT/tools" "$work/project/tools"
cp "$KERNELS" "$work/project/tools/kernels"
cat >>"$work/project/tools/lib.sh" <<'STUB'
in_root() { case $1 in rustc) echo "rustc 1 (made up)" ;; esac; }
STUB
cat >"$work/project/tools/image/mkroot.sh" <<'STUB'
mkdir -p "$1"
STUB
cat >"$work/project/tools/image/mkkernel.sh" <<'STUB'
h=$1/usr/src/linux-headers-$4-$5
mkdir -p "$h"
echo 'CONFIG_RUSTC_VERSION_TEXT="rustc 1 (made up)"' >"$h/.config"
echo "$3" >"$1/version"; echo "$4-$5" >"$1/release"; echo "$7" >"$1/root"
STUB
cat >"$work/project/tools/in-root.sh" <<'STUB'
. "$(dirname "$0")/lib.sh"
[ ! -e "$VHOST_VDPA_LISTS/no-tree" ] || exit 1
mkdir -p "$CACHE/${2#/cache/}"
STUB
cat >"$work/project/tools/build/build.sh" <<'STUB'
[ ! -e "$VHOST_VDPA_LISTS/no-modules" ] || exit 1
STUB
chmod +x "$work"/project/tools/{,*/}*.sh
for f in image/mkroot image/mkkernel in-root build/build; do sed -i '1i #!/bin/bash' "$work/project/tools/$f.sh"; done
cache=$work/cache
setup() { # setup [KERNEL=...] [ARG...]: its words and its status, in $work/said and $status
	local kernel=''
	[[ ${1:-} != KERNEL=* ]] || { kernel=${1#KERNEL=}; shift; }
	status=0
	env -u KERNELS ${kernel:+KERNEL="$kernel"} VHOST_VDPA_CACHE="$cache" VHOST_VDPA_LISTS="$work/lists" \
		"$work/project/tools/setup.sh" "$@" >"$work/said" 2>&1 </dev/null || status=$?
}
unset KERNEL
has() { # has WHAT PATTERN: set-up said it
	n=$((n + 1))
	if grep -qE "$2" "$work/said"; then echo "ok $n - resolve: $1"; else
		echo "not ok $n - resolve: $1"
		echo "# not said: $2"
		sed 's/^/# | /' "$work/said"
		failed=1
	fi
}
silent() { is '' "$1" "$(cat "$work/said")"; }

setup KERNEL=8.8
has 'KERNEL= of no kernel is refused with the list' 'KERNEL=8.8: tools/kernels has 9.3, 9.2, 9.3-rt, rolling'
: >"$work/lists/ports"
setup
is 77 'nothing in the archive or the cache' $status
has 'nothing in the archive or the cache, in words' 'ports has no kernel with image, headers and source'
kernel 9.1.1+deb1 9.1.1-1 9.1 >"$work/lists/ports"
setup
has 'what the archive has and what is supported is named' 'It has: 9.1 \(image\+headers\+source\). Supported: 9.3 and 9.2'

{ kernel 9.2.12+deb1 9.2.12-1 9.2; kernel 9.3.4+deb1 9.3.4-1 9.3; } >"$work/lists/ports"
setup
is 0 'the first run prepares the newest' $status
has 'the first run says which kernel and why' 'kernel 9.3.4-1: the newest of the supported series \(9.3 and 9.2\)'
is 9.3 'and keeps it for later runs' "$(readlink "$cache/default")"
setup
silent 'with everything in place a run does and says nothing'
setup KERNEL=9.2
has 'KERNEL= of another series is prepared' 'kernel 9.2.12-1: the newest for KERNEL=9.2'
is '9.3 9.2.12-1 9.3.4-1' 'beside the first one, which stays the default' \
	"$(readlink "$cache/default") $(cat "$cache/9.2/kernel/version") $(cat "$cache/9.3/kernel/version")"
{ kernel 9.3.10+deb1 9.3.10-1 9.3; kernel 9.4.1+deb1 9.4.1-1 9.4; } >"$work/lists/ports"
setup
has 'a newer kernel in the archive is told' 'the archive has 9.3.10-1: make refresh takes it'
is 9.3.4-1 'and not taken' "$(cat "$cache/9.3/kernel/version")"
setup --refresh
is 9.3.10-1 'make refresh takes it' "$(cat "$cache/9.3/kernel/version")"
is 1 'and removes what it replaces' "$(ls -d "$cache"/9.3/kernel-* | wc -l)"
is 9.2.12-1 'and nothing else' "$(cat "$cache/9.2/kernel/version")"
kernel 9.4.1+deb1 9.4.1-1 9.4 >"$work/lists/ports"
setup
is '0 9.3.10-1' 'a cached kernel is used though the archive has lost it' "$status $(cat "$cache/9.3/kernel/version")"
setup KERNEL=9.3-rt
is 77 'KERNEL= of what the archive has lost' $status
setup KERNEL=9.2 --refresh
has 'make refresh of what the archive has lost keeps the cache' 'kernel 9.2.12-1, from the cache'
: >"$work/lists/ports"
setup --refresh
has 'make refresh without an archive keeps the cache' 'kernel 9.3.10-1, from the cache: ports has none that is complete'
is 0 'and succeeds' $status

rm -rf "$cache"
kernel 9.4.1+deb1 9.4.1-1 9.4 >"$work/lists/ports"
setup
has 'only a newer series: it is tried, and said to be untried' 'kernel 9.4.1-1: only series newer .* UNTRIED'
is '0 9.4' 'and goes on to be used' "$status $(readlink "$cache/default")"
setup
silent 'a second run does not try again'
{ kernel 9.4.1+deb1 9.4.1-1 9.4; kernel 9.3.4+deb1 9.3.4-1 9.3; } >"$work/lists/ports"
setup --refresh
is 9.3 'make refresh goes back to a supported series' "$(readlink "$cache/default")"
for why in no-modules no-tree; do
	rm -rf "$cache"
	kernel 9.4.1+deb1 9.4.1-1 9.4 >"$work/lists/ports"
	touch "$work/lists/$why"
	setup
	is 1 "an untried kernel that cannot be built for fails ($why)" $status
	has "and the last sentence names what was tried and what is supported ($why)" \
		'error: kernel 9.4.1-1 was tried, .* supported are the series 9.3 and 9.2$'
	is '' "and is not kept as the default ($why)" "$(readlink "$cache/default" || true)"
	rm "$work/lists/$why"
done

KERNELS=$PROJECT/tools/kernels
is '' 'every kernel of the real table has a root of it' "$(for k in $(kernel_names); do
	root_field "$(kernel_field "$k" root)" suite >/dev/null || echo "$k"; done)"
echo "1..$n"
exit $failed
