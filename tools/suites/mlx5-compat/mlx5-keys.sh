#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the memory keys of rust_mlx5_compat for userspace, with the compiler of the kernel
# build, run their cases, and compare them with plain ranges on random tables.
# Usage: mlx5-keys.sh [SECONDS [SEED]]
. "$(dirname "$0")/../../lib.sh"
need_root
in_root bash -c '
	rustc --edition 2021 -O --crate-type rlib --out-dir /tmp /src/vdpa_sim/engine/random.rs &&
	rustc --edition 2021 -O -C overflow-checks=on -C debug-assertions=on --extern random=/tmp/librandom.rlib \
		-o /tmp/key_check /src/mlx5/key_check.rs && /tmp/key_check "$@"' mlx5-keys "$@"
