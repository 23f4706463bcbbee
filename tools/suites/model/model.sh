#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the model of the driver's state (selftests/model) for userspace, with the compiler of the
# kernel build, and explore it; then check that it finds each fault that is put in on purpose.
# First: the functions that the model's steps are named after have to be in the source.
# Usage: model.sh [driver | family N | mutants | mutant NAME]
. "$(dirname "$0")/../../lib.sh"
cd "$PROJECT"

missing=0
while IFS=' ' read -r file name; do
	file=${file%:}
	found=1
	grep -qE "fn ${name##*::}\b" "$file" 2>/dev/null || found=
	case $name in
	*::*) grep -qE "\b(impl|trait|struct)\b.*\b${name%%::*}\b" "$file" 2>/dev/null || found= ;;
	esac
	if [ -z "$found" ]; then
		echo "selftests/model names $name of $file, which is not there" >&2
		missing=1
	fi
done < <(grep -ohE '"[a-z0-9_/]+\.rs: [A-Za-z_:]+"' selftests/model/*.rs | tr -d '"' | sort -u)
[ $missing -eq 0 ] || exit 1

need_root
in_root bash -c '
	rustc --edition 2021 -O -C overflow-checks=on -C debug-assertions=on \
		-o /tmp/driver_model /src/selftests/model/main.rs && /tmp/driver_model "$@"' model "$@"
