#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the ring code for userspace, with the compiler of the kernel build, and let
# hostile drivers at it.
# Usage: ring-fuzz.sh [SECONDS [SEED]]
. "$(dirname "$0")/lib.sh"
need_root
in_root bash -c '
	rustc --edition 2021 -O -C overflow-checks=on -C debug-assertions=on \
		-o /tmp/ring_fuzz /src/vdpa_sim/ring_fuzz.rs && /tmp/ring_fuzz "$@"' ring-fuzz "$@"
