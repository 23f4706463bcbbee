#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Refuse a KDIR that cannot work, in one sentence that says why.
# Usage: check-kdir.sh KDIR
kdir=$1
PROJECT=$(cd "$(dirname "$0")/../.." && pwd -P)
. "$PROJECT/tools/table.sh"
series=$(supported_series | tr '\n' ' ' | sed 's/ $//; s/ / and /g')
no() { printf 'KDIR: %s\n' "$*" >&2; exit 1; }

[ -d "$kdir" ] || no "$kdir is not a directory."
[ -e "$kdir/Makefile" ] || no "$kdir is not a kernel build tree (it has no Makefile)."

version=$(sed -nE 's/^VERSION = //p' "$kdir/Makefile").$(sed -nE 's/^PATCHLEVEL = //p' "$kdir/Makefile")
[ "$version" != . ] || version=$(cut -d. -f1-2 "$kdir/include/config/kernel.release" 2>/dev/null)
supported_series | grep -qx "$version" ||
	no "$kdir is Linux ${version:-of an unknown version}, and these modules are written for $series (see tools/kernels)."
[ -e "$kdir/.config" ] || no "$kdir is not configured (no .config): configure it with CONFIG_RUST=y and build it first."
grep -q '^CONFIG_RUST=y' "$kdir/.config" ||
	no "$kdir is configured without Rust (CONFIG_RUST=y is missing in .config)."
for option in CONFIG_VDPA CONFIG_VHOST; do
	grep -q "^$option=[ym]" "$kdir/.config" || no "$kdir is configured without $option, which these modules need."
done
[ -e "$kdir/rust/libkernel.rmeta" ] ||
	no "$kdir has no Rust metadata (rust/libkernel.rmeta): run 'make modules_prepare' in a full source tree (Debian's headers package has none; plain 'make' here prepares one for Debian's stock kernel)."
[ -e "$kdir/Module.symvers" ] || no "$kdir has no Module.symvers: build the kernel (make vmlinux modules) first."

want=$(sed -nE 's/^CONFIG_RUSTC_VERSION_TEXT="(.*)"/\1/p' "$kdir/.config")
have=$("${RUSTC:-rustc}" --version 2>/dev/null) || no "there is no ${RUSTC:-rustc} here, and $kdir was built with $want."
[ "$want" = "$have" ] || no "$kdir was built with '$want', but ${RUSTC:-rustc} is '$have': Rust metadata is bound to the exact compiler, so set RUSTC or PATH to the same one."
