# SPDX-License-Identifier: GPL-2.0
# What the scripts of the package share; sourced after lib.sh. pack_root makes the root in which packages are
# made (tools/image/mkpackroot.sh), if it is missing. No kernel is meant, so that the cache is all of BASE.
CACHE=$BASE
unset KERNEL
. "$PROJECT/tools/image/host-packages.sh"

package_version() { sed -nE '1s/.*\((.*)\).*/\1/p' "$PROJECT/debian/changelog"; }
# export_to DIR: the project's own files, without what was built in the checkout.
export_to() {
	as_root rm -rf "$1"
	mkdir -p "$1"
	(cd "$PROJECT" && project_files | while read -r f; do [ ! -f "$f" ] || printf '%s\0' "$f"; done |
		tar --null -T - -cf -) | tar -C "$1" -xf -
}

pack_root() {
	local key
	key=$(recipe "$PROJECT/tools/image/mkpackroot.sh" | sha256sum | cut -c1-12)
	OTHER_ROOT=$BASE/root-pack-$key
	[ -d "$OTHER_ROOT" ] || {
		mkdir -p "$BASE"
		install_host_packages
		step "root with Debian's packaging tools (about a minute)" "$PROJECT/tools/image/mkpackroot.sh" "$OTHER_ROOT"
	}
	export OTHER_ROOT
}
