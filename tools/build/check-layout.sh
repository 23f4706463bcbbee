#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Compare the layouts of the structures we share with the kernel, as our build
# tree's headers have them (tools/build/layout/probe.c), with the BTF of the kernel and
# modules we are going to load into. Without MODVERSIONS nothing else would notice
# a difference. What was compared is remembered in $CACHE/layout, and the VM checks
# that the kernel it runs carries that very BTF before the first insmod.
# Usage: check-layout.sh [--cached]   (--cached: not again for the same kernel and probe)
. "$(dirname "$0")/../lib.sh"
need_root

key=$(basename "$(readlink "$CACHE/kernel")")
key+=-$(basename "$(readlink "$CACHE/tree")")
key+=-$(recipe "$PROJECT/tools/build/check-layout.sh" "$PROJECT/tools/build/layout/probe.c" | sha256sum | cut -c1-12)
if [ "${1:-}" = --cached ] && [ "$(cat "$CACHE/layout/key" 2>/dev/null)" = "$key" ]; then
	exit
fi
rm -rf "$CACHE/layout.part"
mkdir -p "$CACHE/layout.part"

mapfile -t kmake < <(kernel_make)
in_root bash -euo pipefail -s "$(kernel_release)" "${kmake[@]}" <<'IN_ROOT'
release=$1
shift
out=/cache/layout.part
mkdir $out/build
cp /src/tools/build/layout/{Kbuild,probe.c} $out/build
make -s M=$out/build "$@" probe.o

objcopy --dump-section .BTF=$out/vmlinux.btf "/cache/kernel/usr/src/linux-headers-$release/vmlinux" /dev/null
for m in vdpa vhost vhost_iotlb irqbypass; do
	file=$(modinfo -k "$release" -F filename $m)
	xz -dc "$file" >$out/build/$m.ko
	objcopy --dump-section .BTF=$out/$m.btf $out/build/$m.ko /dev/null
done
( cd $out && sha256sum -- *.btf ) >$out/sums

# Names, types, offsets and sizes; not the comments that pahole adds, nor the member
# name of an anonymous structure, which it prints from BTF only.
normal() { sed -E 's/__attribute__\(\([^;{]*\)\)//; /\/\* (XXX|---|sum|last|forced|member types|paddings)/d; s/, cachelines.*//; s/[ \t]+/ /g; s/ ;/;/; s/^ ?\} \w+; /}; /; s/^ \}/}/; /^ ?$/d'; }

failed=0 n=0
for type in $(sed -nE 's/^PROBE\((.*)\);/\1/p; s/^union (\w+) probe_.*/\1/p' /src/tools/build/layout/probe.c); do
	pahole -F dwarf -C "$type" $out/build/probe.o 2>/dev/null | normal >$out/build/ours || true
	[ -s $out/build/ours ] || { echo "$type: the build tree does not define it"; failed=1; continue; }
	found=0
	for m in vmlinux vdpa vhost vhost_iotlb irqbypass; do
		if [ $m = vmlinux ]; then base=(); else base=(--btf_base=$out/vmlinux.btf); fi
		pahole "${base[@]}" -F btf -C "$type" $out/$m.btf 2>/dev/null | normal >$out/build/theirs || true
		[ -s $out/build/theirs ] || continue
		found=1
		if ! diff -u --label "build tree" --label "$m" $out/build/ours $out/build/theirs; then
			echo "$type: the layout in $m differs from the build tree's"
			failed=1
		fi
		# A module's view of what the kernel itself defines is the kernel's.
		[ $m != vmlinux ] || break
	done
	[ $found = 1 ] || { echo "$type: the kernel's BTF does not have it"; failed=1; }
	n=$((n + 1))
done
echo "$n structures compared with $release"
exit $failed
IN_ROOT
as_root rm -rf "$CACHE/layout.part/build" "$CACHE/layout"
as_root rm -f "$CACHE"/layout.part/*.btf
echo "$key" >"$CACHE/layout.part/key"
mv -T "$CACHE/layout.part" "$CACHE/layout"
