# SPDX-License-Identifier: GPL-2.0
# pack_root: the root in which packages are made (tools/mkpackroot.sh), made if it is missing. Sourced
# after lib.sh. No kernel is meant, so that the cache is all of BASE.
CACHE=$BASE
unset KERNEL
. "$PROJECT/tools/host-packages.sh"

pack_root() {
	local key
	key=$(cat "$PROJECT/tools/mkpackroot.sh" | sha256sum | cut -c1-12)
	OTHER_ROOT=$BASE/root-pack-$key
	[ -d "$OTHER_ROOT" ] || {
		mkdir -p "$BASE"
		install_host_packages
		step "root with Debian's packaging tools (about a minute)" "$PROJECT/tools/mkpackroot.sh" "$OTHER_ROOT"
	}
	export OTHER_ROOT
}
