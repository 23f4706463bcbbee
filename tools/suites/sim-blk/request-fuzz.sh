#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build what serves a disk's requests for userspace, with the compiler of the kernel build, and let
# hostile drivers at it.
# Usage: request-fuzz.sh [SECONDS [SEED]]
. "$(dirname "$0")/../../lib.sh"
need_root
in_root bash -c '
	rustc --edition 2021 -O -C overflow-checks=on -C debug-assertions=on \
		-o /tmp/request_fuzz /src/vdpa_sim/request_fuzz.rs && /tmp/request_fuzz "$@"' request-fuzz "$@"
