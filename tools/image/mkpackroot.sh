#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make the small root in which Debian packages are built and checked: Debian's stable suite with its
# packaging tools. No compiler is needed: the package has sources, and DKMS builds where it is installed.
# Usage: mkpackroot.sh DIR  (DIR appears complete or not at all)
. "$(dirname "$0")/../lib.sh"

dir=$1
. "$PROJECT/tools/image/mirror.sh"
need_root
suite=$(root_field "$(kernel_field "$(kernel_names default | head -n 1)" root)" suite)

# rsync and git are for tools/package/deb.sh, docutils makes the manual page; codespell, shellcheck and pyflakes are for
# check-text.sh.
packages=debhelper,dh-dkms,lintian,dpkg-dev,python3-docutils,codespell,shellcheck,pyflakes3,git,rsync,python3-git,python3-ply
as_root rm -rf --one-file-system "$dir.part"
as_root mmdebstrap --variant=minbase --mode=root \
	--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
	--include="$packages" "$suite" "$dir.part" \
	"deb $MIRROR $suite main" "deb $MIRROR $suite-updates main" "deb $MIRROR_SECURITY $suite-security main"
as_root sh -c "rm -rf '$dir.part'/var/lib/apt/lists/* '$dir.part'/var/cache/apt/*.bin
	mkdir -p '$dir.part/src' '$dir.part/cache' '$dir.part/boot' '$dir.part/usr/lib/modules'
	mv -T '$dir.part' '$dir'"
