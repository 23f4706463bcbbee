#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the ring code for userspace, with the compiler of the kernel build, and let
# drivers at it: those that do everything right must get every buffer back, and hostile
# ones must do no harm. With 0 seconds, a fixed number of seeds is tried.
# Usage: ring-fuzz.sh [SECONDS [SEED]]
. "$(dirname "$0")/../../lib.sh"
need_root
in_root bash -c '
	rustc --edition 2021 -O -C overflow-checks=on -C debug-assertions=on \
		-o /tmp/ring_fuzz /src/vdpa_sim/ring_fuzz.rs && /tmp/ring_fuzz "$@"' ring-fuzz "$@"
