#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Kconfig as a kernel tree would read it: it parses without a warning, every option that Kbuild asks
# about can be set to m in the debug kernel's configuration, and none without Rust.
# Runs inside the build root.  Usage: check-kconfig.sh TREE
set -euo pipefail

src=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
llvm=$(sed -nE 's/^CONFIG_CC_VERSION_TEXT=.*clang version ([0-9]+)\..*/\1/p' .config)
mapfile -t options < <(sed -nE 's/^obj-\$\((CONFIG_[A-Z0-9_]+)\).*/\1/p' "$src/Kbuild")
[ ${#options[@]} -gt 0 ]
{ cat Kconfig; printf 'source "%s/Kconfig"\n' "$src"; } >"$work/Kconfig"

# configure SED: the tree's own configuration, changed and with all options wanted.
configure() {
	sed -E "$1" .config >"$work/.config"
	printf '%s=m\n' "${options[@]}" >>"$work/.config"
	make -s LLVM=-"$llvm" KCONFIG_CONFIG="$work/.config" Kconfig="$work/Kconfig" KBUILD_KCONFIG="$work/Kconfig" \
		olddefconfig >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
}

configure ''
! grep -F "$src/Kconfig" "$work/out" || exit 1
for o in "${options[@]}"; do
	grep -qx "$o=m" "$work/.config" || { echo "$o cannot be set"; exit 1; }
done
configure 's/^CONFIG_RUST=y/# CONFIG_RUST is not set/'
for o in "${options[@]}"; do
	! grep -q "^$o=" "$work/.config" || { echo "$o does not depend on RUST"; exit 1; }
done
