#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Checks of the text of the project's files, with Debian's and the kernel's own tools. TAP lines.
. "$(dirname "$0")/../lib.sh"
prepare
kernel_cache=$CACHE
. "$PROJECT/tools/image/pack-root.sh"
pack_root >/dev/null
CACHE=$kernel_cache
cd "$PROJECT" || exit 1
set +e
failed=0
try() { tap "$@" || failed=1; }

# Words of the field, and words of tests, that codespell takes for typing errors.
spelling() {
	in_root sh -c 'cd /src && xargs -0 codespell --ignore-words tools/lint/codespell-words --builtin clear,rare --' \
		< <(cd "$PROJECT" && project_files | grep -v -e ^LICENSES/ -e ^tools/lint/codespell-words | tr '\n' '\0')
}
# spdxcheck.py reads a commit, with LICENSES as the kernel has them: one of a copy, with the kernel's.
spdx() {
	local rc=0
	export_to "$CACHE/spdx"
	in_root sh -euc '
		rm -r /cache/spdx/LICENSES
		cp -r /cache/tree/LICENSES /cache/spdx/
		cd /cache/spdx
		git init -q .
		git add -A
		git -c user.name=none -c user.email=none commit -qm copy
		said=$(python3 /cache/tree/scripts/spdxcheck.py)
		printf "%s\n" "$said"
		[ -z "$said" ]' || rc=$? # its status says nothing
	as_root rm -rf "$CACHE/spdx"
	return $rc
}
in_src() { in_root sh -c 'cd /src && exec "$@"' sh "$@"; }
# Warnings and errors of shellcheck. Excluded are names that only who sources the file uses (SC2034), lists that are split
# on purpose (SC2046), cd under errexit (SC2164), "a= b=" (SC1007), "[ ... ]; report $?" (SC2319), and names that are a
# list in one function and a word in another (SC2128, SC2165, SC2167, SC2178).
shell() {
	local f first with=() without=()
	while read -r f; do
		[ -f "$f" ] || continue
		read -r first <"$f"
		case $first:$f in
		'#!'*sh:*) with+=("$f") ;;
		'#!'*) ;;
		*.sh) without+=("$f") ;;
		esac
	done < <(project_files)
	local exclude=SC1007,SC2034,SC2046,SC2128,SC2164,SC2165,SC2167,SC2178,SC2319
	local options=(--severity=warning "--exclude=$exclude")
	in_src shellcheck "${options[@]}" "${with[@]}" &&
		in_src shellcheck --shell=bash "${options[@]}" "${without[@]}"
}
python() {
	in_src python3 -m pyflakes $(project_files .py)
}
# Plain docutils: the pages can be read without Sphinx.
pages() {
	in_root sh -c 'cd /src && for f in "$@"; do rst2man --syntax-highlight=none --report=2 --halt=2 "$f" /dev/null || exit 1; done' sh \
		$(cd "$PROJECT" && project_files .rst)
}
try "every page of Documentation is well formed" pages
try "codespell knows every word" spelling
try "shellcheck finds nothing" shell
try "pyflakes finds nothing" python
try "spdxcheck.py of the kernel accepts every licence line" spdx

# --- what stands in more than one place
version=$(package_version)
try "the modules tell the version of debian/changelog" grep -qxF "MODULE_VERSION(\"$version\");" abstractions/helpers/version.h
try "CHANGELOG.md has it" grep -q "^## $version" CHANGELOG.md
packaged() { # each series of tools/kernels is known to the package
	local series missing=0
	for series in $(supported_series); do
		grep -q "linux-source-$series" debian/control || { echo "debian/control: no linux-source-$series"; missing=1; }
		grep -qx "interest-noawait /usr/src/linux-source-$series.tar.xz" debian/*.triggers || { echo "debian/*.triggers: no $series"; missing=1; }
	done
	return $missing
}
try "the package knows each supported series" packaged
exit $failed
