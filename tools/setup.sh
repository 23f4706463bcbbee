#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Prepare, in the cache, what every other target needs: a Debian root that is both build environment
# and VM root, a stock kernel, and that kernel's build tree with its Rust half.
# Usage: setup.sh [--refresh] [guest] [csim] [debug]
#   --refresh  look into the archive even if the cache has a kernel
#   guest      also build the nested guest's kernel, which the demo needs without KVM
#   csim       also build C's simulators and vp_vdpa for the stock kernel
#   debug      also build the debug kernel
#
# KERNEL=NAME says which line of tools/kernels is meant. Without it a run keeps the kernel of the last
# one, and the first run takes what choose_kernel (tools/table.sh) says. Exit status 77: the archive
# does not have KERNEL whole, and neither has the cache.
#
# Each part is keyed by what it is made from, appears complete or not at all, and is
# not made twice. With everything in place this does nothing and needs no network.
. "$(dirname "$0")/lib.sh"

refresh='' guest='' csim='' debug=''
for arg; do
	case $arg in
	--refresh) refresh=1 ;;
	guest) guest=1 ;;
	csim) csim=1 ;;
	debug) debug=1 ;;
	*) die "setup.sh: $arg?" ;;
	esac
done

[ "$(uname -m)" = x86_64 ] || die "only x86_64 hosts are supported, and this is $(uname -m)"
asked=${KERNEL:-}
[ "$asked" = "$(readlink "$BASE/default" 2>/dev/null || true)" ] || [ -e "$BASE/$asked/kernel/untried" ] ||
	kernel_field "$asked" class >/dev/null ||
	die "KERNEL=$asked: tools/kernels has $(kernel_names | tr '\n' ' ' | sed 's/ $//; s/ /, /g')"
need_root
mkdir -p "$BASE"
exec 9>"$BASE/lock"
flock -n 9 || { say "      another run prepares the same cache: waiting for it"; flock 9; }

key() { sha256sum | cut -c1-12; }
# What a root is made of; the kernels are beside it.
root_key() {
	{ awk -v root="$1" '$1 == "root" && $2 == root' "$KERNELS"; recipe "$PROJECT/tools/image/root-packages" "$PROJECT/tools/image/mkroot.sh"; } | key
}
tree_key() { { echo "$1"; recipe "$PROJECT/tools/image/mktree.sh"; } | key; }
guest_key() { { echo "$1"; recipe "$PROJECT/tools/image/mkguest.sh" "$PROJECT/tools/image/guest/guest.config"; } | key; }
csim_key() { { echo "$1"; recipe "$PROJECT/tools/image/mkcsim.sh"; } | key; }
debug_key() { { echo "$1"; recipe "$PROJECT/tools/image/mkdebug.sh" "$PROJECT/tools/image/debug.config"; } | key; }
use() { # use LINK TARGET
	[ "$(readlink "$CACHE/$1" 2>/dev/null)" = "$2" ] || ln -sfnT "$2" "$CACHE/$1"
}

. "$PROJECT/tools/image/host-packages.sh"

find_mirror() {
	[ -n "${VHOST_VDPA_LISTS:-}" ] || . "$PROJECT/tools/image/mirror.sh"
}

# download_list SUITE FILE: the suite's package list; an archive that cannot be reached is no list. What
# is installed from it is verified by apt later.
download_list() {
	if [ -n "${VHOST_VDPA_LISTS:-}" ]; then # made-up lists: see resolve-test.sh
		cp "$VHOST_VDPA_LISTS/$1" "$2" 2>/dev/null || : >"$2"
		return
	fi
	timeout "${3:-300}" /usr/lib/apt/apt-helper download-file "${MIRROR#\[*\] }/dists/$1/main/binary-amd64/Packages.xz" "$2.xz" &&
		xz -dc "$2.xz" >"$2" || : >"$2"
}

# cached_kernels: the names of the kernels in the cache that a run could use.
cached_kernels() {
	local d
	for d in "$BASE"/*/kernel/release; do
		d=${d%/kernel/release}
		[ ! -e "$d/kernel/release" ] || [ -L "$d" ] || echo "${d##*/}"
	done
}

supported() { supported_series | tr '\n' ' ' | sed 's/ $//; s/ / and /g'; }

# resolve: set KERNEL, and version, abi, series and how unless the cache is to be used.
resolve() {
	local lists suite choice name
	name=${asked:-$(kernel_names default | head -n 1)}
	[ -z "$asked" ] || kernel_field "$asked" class >/dev/null || name=$(kernel_names default | head -n 1)
	suite=$(kernel_field "$name" suite)
	lists=$(mktemp -d)
	step "package list of $suite" download_list "$suite" "$lists/list"
	# A line that was asked for, or, with --refresh, the one in use, is looked for by itself.
	if [ -n "$explicit" ]; then
		choice=$(newest_kernel "$lists/list" "$asked")
		[ -z "$choice" ] || choice="$asked $choice asked"
		if [ -z "$choice" ] && [ -e "$CACHE/kernel/release" ]; then choice="$asked - - - cached"; fi
	else
		choice=$(choose_kernel "$lists/list" "$(cached_kernels | tr '\n' ' ')") || choice=''
	fi
	local has
	has=$(seen_series "$lists/list" "$(kernel_field "$name" flavour)")
	rm -rf "$lists"
	read -r KERNEL version abi series how <<<"$choice"
	if [ -z "$choice" ]; then
		say "error: $suite has no ${explicit:+$asked }kernel with image, headers and source at one version, and the cache has none either." >&2
		say "It has: ${has:-no kernel at all, or it cannot be reached}. Supported: $(supported)." >&2
		say "While a new kernel is being published this lasts for hours: try again later, or another DEBIAN_MIRROR." >&2
		exit 77
	fi
	case $how in
	supported) note "kernel $version: the newest of the supported series ($(supported)) that is complete in $suite" ;;
	asked) note "kernel $version: the newest for KERNEL=$KERNEL that is complete in $suite" ;;
	untried) note "kernel $version: only series newer than the supported ones ($(supported)) are complete in $suite; this one is UNTRIED" ;;
	cached) note "kernel $(cat "$BASE/$KERNEL/kernel/version"), from the cache: $suite has none that is complete (${has:-it cannot be reached, or is empty})" ;;
	esac
}

# say_newer: once a day, tell of a newer kernel in the archive. Nothing depends on it.
say_newer() {
	local suite stamp=$BASE/looked newest
	kernel_field "$KERNEL" class >/dev/null || return 0
	if [ -n "${VHOST_VDPA_LISTS:-}" ] || [ -z "$(find "$stamp" -mtime -1 2>/dev/null)" ]; then
		suite=$(kernel_field "$KERNEL" suite)
		[ -n "${VHOST_VDPA_LISTS:-}" ] || MIRROR=$(apt-get indextargets --format '$(SITE) $(REPO_URI) $(RELEASE) $(ORIGIN)' 2>/dev/null |
			awk '$4 == "Debian" && $3 ~ /^[a-z]+$/ { print $2; exit }')
		MIRROR=${DEBIAN_MIRROR:-${MIRROR:-}} MIRROR=${MIRROR%/}
		[ -n "${VHOST_VDPA_LISTS:-}$MIRROR" ] || return 0
		download_list "$suite" "$stamp.list" 10 >/dev/null 2>&1
		if [ -n "$explicit" ] || ! newest=$(choose_kernel "$stamp.list" ''); then
			newest=$(newest_kernel "$stamp.list" "$KERNEL")
			newest=${newest%% *}
		else
			newest=$(cut -d' ' -f2 <<<"$newest")
		fi
		rm -f "$stamp.list" "$stamp.list.xz"
		printf '%s\n' "$newest" >"$stamp"
	fi
	newest=$(cat "$stamp")
	[ -z "$newest" ] || [ "$newest" = "$(cat "$CACHE/kernel/version")" ] ||
		dpkg --compare-versions "$newest" le "$(cat "$CACHE/kernel/version")" ||
		note "kernel $(cat "$CACHE/kernel/version"), from the cache; the archive has $newest: make refresh takes it"
}

# Whoever sets KERNEL means it; what lib.sh took from the cache is only kept.
explicit=''
[ -z "$asked" ] || [ -L "$BASE/default" ] && [ "$asked" = "$(readlink "$BASE/default")" ] || explicit=1
version='' abi='' series='' how=''
old=$(readlink "$BASE/$asked/kernel" 2>/dev/null || true)
if [ -n "$refresh" ] || [ -z "$asked" ] || [ ! -e "$CACHE/kernel/release" ]; then
	install_host_packages
	find_mirror
	resolve
	[ "$how" != cached ] || version=''
	use_kernel
	mkdir -p "$CACHE/logs" "$CACHE/runs"
else
	say_newer || true
fi
mkdir -p "$CACHE/logs" "$CACHE/runs"

if class=$(kernel_field "$KERNEL" class); then
	untried='' root=$(kernel_field "$KERNEL" root) suite=$(kernel_field "$KERNEL" suite) flavour=$(kernel_field "$KERNEL" flavour)
else # a series that the table does not have, in the place of the default one
	class=untried untried=1 name=$(kernel_names default | head -n 1)
	root=$(kernel_field "$name" root) suite=$(kernel_field "$name" suite) flavour=$(kernel_field "$name" flavour)
fi

# --- the root
rootdir=root-$root-$(root_key "$root")
make_root() {
	install_host_packages
	find_mirror
	local free
	free=$(df -Pk "$BASE" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge 12 ] || die "only $free GB free below $BASE, and 12 GB are needed"
	step "root file system, Debian $root (about 3 minutes)" "$PROJECT/tools/image/mkroot.sh" "$BASE/$rootdir" "$root"
}
[ -d "$BASE/$rootdir" ] || make_root
use root "../$rootdir"

# --- the kernel
if [ -n "$version" ]; then
	dir=kernel-$({ echo "$version $abi $flavour"; recipe "$PROJECT/tools/image/mkkernel.sh"; } | key)
	if [ ! -d "$CACHE/$dir" ]; then
		step "stock kernel $abi-$flavour (about 20 s)" "$PROJECT/tools/image/mkkernel.sh" \
			"$CACHE/$dir" "$suite" "$version" "$abi" "$flavour" "$series" "$root"
	fi
	use kernel "$dir"
	[ -z "$untried" ] || touch "$CACHE/kernel/untried"
	step "module dependencies" in_root depmod "$(kernel_release)"
fi
# Rust metadata is bound to the exact compiler: a root may have become too old for its suite's kernel.
want=$(sed -nE 's/^CONFIG_RUSTC_VERSION_TEXT="(.*)"/\1/p' "$CACHE/kernel/usr/src/linux-headers-$(kernel_release)/.config")
if [ "$want" != "$(in_root rustc --version)" ]; then
	note "the kernel was built with $want, the root has $(in_root rustc --version): making the root anew"
	as_root rm -rf --one-file-system "$BASE/$rootdir"
	make_root
	[ "$want" = "$(in_root rustc --version)" ] ||
		die "kernel $(cat "$CACHE/kernel/version") was built with '$want', and Debian $root has '$(in_root rustc --version)': its modules cannot be built"
fi

# --- the tree, and for an untried kernel the modules
rootid=$(readlink "$CACHE/root") rootid=${rootid##*/}
tree=tree-$(tree_key "$(readlink "$CACHE/kernel") $rootid")
make_tree() {
	[ -d "$CACHE/$tree" ] ||
		step "stock build tree with Rust metadata (about 90 s)" "$PROJECT/tools/in-root.sh" /src/tools/image/mktree.sh "/cache/$tree"
	use tree "$tree"
}
try_modules() {
	make_tree
	[ -e "$CACHE/tried" ] && [ "$(cat "$CACHE/tried")" = "$tree" ] ||
		step "modules for an untried kernel" "$PROJECT/tools/build/build.sh" copy
	printf '%s\n' "$tree" >"$CACHE/tried"
}
if [ -z "$untried" ]; then
	make_tree
else
	(try_modules) || die "kernel $(cat "$CACHE/kernel/version") was tried, the newest that is complete in $suite, and the modules cannot be built for it; supported are the series $(supported)"
fi

# A run without KERNEL= goes on with this one.
[ -n "$explicit" ] || ln -sfnT "$KERNEL" "$BASE/default"

version=$(cat "$CACHE/kernel/version")
if [ -n "$guest" ]; then
	kernel=guest-$(guest_key "$version")
	[ -d "$CACHE/$kernel" ] ||
		step "the nested guest's kernel (about 5 minutes)" "$PROJECT/tools/in-root.sh" /src/tools/image/mkguest.sh "/cache/$kernel" "$(root_of cc)"
	use guest "$kernel"
fi

if [ -n "$csim" ]; then
	dir=csim-$(csim_key "$tree")
	[ -d "$CACHE/$dir" ] ||
		step "C's simulators for the stock kernel" "$PROJECT/tools/in-root.sh" /src/tools/image/mkcsim.sh /cache/tree "/cache/$dir"
	use csim "$dir"
fi

if [ -n "$debug" ]; then
	dir=debug-$(debug_key "$version")
	[ -d "$CACHE/$dir" ] ||
		step "the debug kernel (10 to 25 minutes)" "$PROJECT/tools/in-root.sh" /src/tools/image/mkdebug.sh "/cache/$dir" /src/tools/image/debug.config "$(root_of llvm)"
	use debug "$dir"
fi

# A newer kernel replaces the old one of its line; what a run may still use stays until then.
if [ -n "$refresh" ] && [ -n "$old" ] && [ "$old" != "$(readlink "$CACHE/kernel")" ]; then
	as_root rm -rf --one-file-system "$CACHE/$old"
	for d in "$CACHE"/{tree,csim,debug,guest}-*; do
		name=${d##*/}
		[ "$(readlink "$CACHE/${name%%-*}")" = "$name" ] || [ "$name" = debug-build ] || [ ! -d "$d" ] ||
			as_root rm -rf --one-file-system "$d"
	done
fi
