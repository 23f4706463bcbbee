#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Fetch one stock kernel: image, modules, headers and source of one version, unpacked and not
# installed. apt checks the signatures; what an image or headers package needs of its own version
# comes with it.
# Usage: mkkernel.sh DIR SUITE VERSION ABI FLAVOUR SERIES ROOT  (DIR appears complete or not at all)
#
# In DIR afterwards: boot, usr/lib/modules and usr/src, and three files with one line each:
# version (Debian's), release (as uname -r says it) and root (its name in tools/kernels).
. "$(dirname "$0")/../lib.sh"

[ "$1" != unpack ] || IFS=' ' read -r -a args <<<"$MKKERNEL"
[ "$1" = unpack ] || args=("$@")
dir=${args[0]} suite=${args[1]} version=${args[2]} abi=${args[3]} flavour=${args[4]} series=${args[5]} root=${args[6]}

fetch() { # fetch PACKAGE...: into the current folder
	local p
	for p; do
		ls "${p}_"*.deb >/dev/null 2>&1 || apt-get download "$p=$version"
	done
}
# What a package needs of its own version, by name.
siblings() {
	dpkg-deb -f "$1" Depends | tr , '\n' | grep -F "(= $version)" | sed -E 's/^ *([^ ]+).*/\1/'
}
unpack() { # unpack DIR: runs with apt's configuration for DIR's own package lists
	local p again=1
	mkdir "$1/debs"
	cd "$1/debs"
	fetch "linux-image-$abi-$flavour" "linux-headers-$abi-$flavour" "linux-source-$series"
	while [ -n "$again" ]; do
		again=''
		for p in *.deb; do
			for p in $(siblings "$p"); do
				ls "${p}_"*.deb >/dev/null 2>&1 || { fetch "$p"; again=1; }
			done
		done
	done
	mkdir ../files
	for p in *.deb; do dpkg-deb -x "$p" ../files; done
	cd ../files
	# Packages of an archive from before the merge of /usr.
	if [ -d lib/modules ]; then mkdir -p usr/lib; cp -a lib/modules usr/lib/; fi
	mkdir -p boot
}

if [ "$1" = unpack ]; then # the second call, by mmdebstrap's hook
	export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
	unpack "$2"
	exit
fi
. "$PROJECT/tools/image/mirror.sh"
need_root

as_root rm -rf --one-file-system "$dir.part" "$dir.apt"
# An empty root gives apt the suite's lists, with their signatures, whatever the host's suite is.
as_root env MKKERNEL="$*" mmdebstrap --variant=custom --mode=root --skip=cleanup/apt \
	--aptopt='Acquire::Retries "3"' --aptopt='APT::Sandbox::User "root"' \
	--customize-hook="'$PROJECT/tools/image/mkkernel.sh' unpack \"\$1\"" \
	"$suite" "$dir.apt" "deb $MIRROR $suite main"
release=$abi-$flavour
as_root bash -euc '
	mkdir "$1.part"
	mv "$1.apt"/files/{boot,usr} "$1.part/"
	rm -rf --one-file-system "$1.apt"
	[ -e "$1.part/boot/vmlinuz-$3" ] || cp "$1.part/usr/lib/modules/$3/vmlinuz" "$1.part/boot/vmlinuz-$3"
	printf "%s\n" "$2" >"$1.part/version"
	printf "%s\n" "$3" >"$1.part/release"
	printf "%s\n" "$4" >"$1.part/root"
	mv -T "$1.part" "$1"' sh "$dir" "$version" "$release" "$root"
