#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Prepare, in the cache, what every other target needs: a Debian root that is both
# build environment and VM root, and the stock kernel's build tree with its Rust half.
# Usage: setup.sh [--refresh] [guest] [csim] [debug]
#   --refresh  look into the archive even if there is a root
#   guest      also build the nested guest's kernel, which only the demo needs
#   csim       also build C's simulators and vp_vdpa for the stock kernel
#   debug      also build the debug kernel
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
need_root
mkdir -p "$CACHE/logs" "$CACHE/runs"
exec 9>"$CACHE/lock"
flock -n 9 || { say "      another run prepares the same cache: waiting for it"; flock 9; }

key() { sha256sum | cut -c1-12; }
root_key() { { echo "$1"; cat "$PROJECT/tools/root-packages" "$PROJECT/tools/mkroot.sh"; } | key; }
tree_key() { { echo "$1"; cat "$PROJECT/tools/mktree.sh"; } | key; }
guest_key() { { echo "$1"; cat "$PROJECT/tools/mkguest.sh" "$PROJECT/tools/guest/guest.config"; } | key; }
csim_key() { { echo "$1"; cat "$PROJECT/tools/mkcsim.sh"; } | key; }
debug_key() { { echo "$1"; cat "$PROJECT/tools/mkdebug.sh" "$PROJECT/tools/debug.config"; } | key; }
use() { # use LINK DIR
	[ "$(readlink "$CACHE/$1" 2>/dev/null)" = "$2" ] || ln -sfnT "$2" "$CACHE/$1"
}

install_host_packages() {
	local want=() p
	for p in mmdebstrap xz-utils debian-archive-keyring; do
		dpkg-query -W -f '${db:Status-Abbrev}\n' "$p" 2>/dev/null | grep -q '^ii' || want+=("$p")
	done
	# Trixie's archive keys came with later versions of the keyring package.
	ls /usr/share/keyrings/debian-archive-trixie-automatic.* >/dev/null 2>&1 ||
		[[ " ${want[*]} " == *' debian-archive-keyring '* ]] || want+=(debian-archive-keyring)
	[ ${#want[@]} -gt 0 ] || return 0
	step "host packages: ${want[*]}" as_root sh -c '
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q update && apt-get -qy install --no-install-recommends "$@"' sh "${want[@]}"
	ls /usr/share/keyrings/debian-archive-trixie-automatic.* >/dev/null 2>&1 ||
		note "debian-archive-keyring here has no key file of trixie's; if the next step complains of NO_PUBKEY, upgrade it"
}

# The newest 7.2.x of which the archive has image, headers and source alike.
resolve_version() {
	local lists
	lists=$(mktemp -d)
	step "package lists of trixie-backports" sh -c '
		/usr/lib/apt/apt-helper download-file "$1/dists/trixie-backports/main/binary-amd64/Packages.xz" "$2/p.xz" &&
		xz -d "$2/p.xz"' sh "$MIRROR" "$lists"
	local found
	found=$(awk -v series="$SERIES" '
		$1 == "Package:" { package = $2 }
		$1 == "Version:" && index($2, series ".") == 1 {
			abi = $2; sub(/-.*/, "", abi); abi = abi "+deb13"
			kind = ""
			if (package == "linux-image-" abi "-amd64") kind = "image"
			if (package == "linux-headers-" abi "-amd64") kind = "headers"
			if (package == "linux-source-" series) kind = "source"
			if (kind != "") { seen[$2] = seen[$2] " " kind; n[$2]++ }
		}
		END { for (v in n) print v, n[v], seen[v] }' "$lists/p" | sort -V)
	local others
	others=$(awk '$1 == "Package:" { p = $2 }
		$1 == "Version:" && p ~ /^linux-image-[0-9.]+[^-]*-amd64$/ { print $2 }' "$lists/p" | sort -uV | tr '\n' ' ')
	rm -rf "$lists"
	version=$(awk '$2 == 3 { v = $1 } END { print v }' <<<"$found")
	[ -n "$version" ] || die "trixie-backports has no $SERIES kernel with image, headers and source at one version;
of $SERIES it has: $(sed -E 's/ [0-9]+ / with/; s/$/;/' <<<"${found:-nothing}" | tr '\n' ' ')
kernel images of any series: ${others:-none}
While a new kernel is being published this lasts for hours: try again later, or another DEBIAN_MIRROR."
}

version=$(cat "$CACHE/root/etc/vhost-vdpa-kernel" 2>/dev/null || true)
old=$(readlink "$CACHE/root" 2>/dev/null || true)
if [ -n "$refresh" ] || [ -z "$version" ] || [ ! -d "$CACHE/root-$(root_key "$version")" ]; then
	install_host_packages
	. "$PROJECT/tools/mirror.sh"
	resolve_version
	note "kernel $version"
	root=root-$(root_key "$version")
	if [ ! -d "$CACHE/$root" ]; then
		free=$(df -Pk "$CACHE" | awk 'NR == 2 { print int($4 / 1048576) }')
		[ "$free" -ge 12 ] || die "only $free GB free below $CACHE, and 12 GB are needed"
		step "root file system (about 3 minutes)" "$PROJECT/tools/mkroot.sh" "$CACHE/$root" "$version"
	fi
	use root "$root"
fi
use root "root-$(root_key "$version")"

tree=tree-$(tree_key "$(readlink "$CACHE/root")")
[ -d "$CACHE/$tree" ] ||
	step "stock build tree with Rust metadata (about 90 s)" "$PROJECT/tools/in-root.sh" /src/tools/mktree.sh "/cache/$tree"
use tree "$tree"

if [ -n "$guest" ]; then
	kernel=guest-$(guest_key "$version")
	[ -d "$CACHE/$kernel" ] ||
		step "the nested guest's kernel (about 5 minutes)" "$PROJECT/tools/in-root.sh" /src/tools/mkguest.sh "/cache/$kernel"
	use guest "$kernel"
fi

if [ -n "$csim" ]; then
	dir=csim-$(csim_key "$tree")
	[ -d "$CACHE/$dir" ] ||
		step "C's simulators for the stock kernel" "$PROJECT/tools/in-root.sh" /src/tools/mkcsim.sh /cache/tree "/cache/$dir"
	use csim "$dir"
fi

if [ -n "$debug" ]; then
	dir=debug-$(debug_key "$version")
	[ -d "$CACHE/$dir" ] ||
		step "the debug kernel (10 to 25 minutes)" "$PROJECT/tools/in-root.sh" /src/tools/mkdebug.sh "/cache/$dir" /src/tools/debug.config
	use debug "$dir"
fi

# A newer root replaces the old one; what a run may still use stays until then.
if [ -n "$refresh" ] && [ -n "$old" ] && [ "$old" != "$(readlink "$CACHE/root")" ]; then
	as_root rm -rf --one-file-system "$CACHE/$old"
fi
