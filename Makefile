# SPDX-License-Identifier: GPL-2.0
# The front door. Kbuild has the modules themselves.
#
#   make KDIR=/path/to/linux [LLVM=1]    against a configured tree of your own
#   make                                     against Debian's stock kernel, prepared in a cache
#   make help                                everything else

ifneq ($(KERNELRELEASE),)
# A kernel tree that finds this file instead of Kbuild still does the right thing.
include $(src)/Kbuild
else

.DEFAULT_GOAL := modules
.PHONY: help setup all modules modules_install demo check kernels clients fuzz soak bench speed parity shell deb package-check fmt fmtcheck clippy clean refresh cache-clean

all: modules

help:
	@sed -n '/^# [a-z]/p; /^#  /p' Makefile
	@echo
	@echo 'Targets (root or sudo without a password; a Debian mirror the first time):'
	@echo '  demo         a guest whose disk and NIC run through the driver, on the stock kernel in a VM'
	@echo '  check        formatting, lints, build, layout check, selftests in the VM'
	@echo '  kernels      every kernel of tools/kernels: builds, layouts, selftests; a table (NAMES=)'
	@echo '  clients      QEMU in all its ways (shadow virtqueues, live migration), libblkio and the vdpa tool'
	@echo '  fuzz         fresh seeds of differential fuzzing against the C driver (SECONDS=300)'
	@echo '  soak         removals under load, swapped eventfds, failing allocations: on the debug kernel (ROUNDS=1000)'
	@echo '  bench        C driver and ours side by side: mapping, messages, ioctls (ROUNDS=5, CASES=)'
	@echo '  speed        the simulators beside C'"'"'s: requests and frames a second (ROUNDS=5, TIME=3, COUNT=)'
	@echo '  parity       the same selftests on the C driver and ours, compared'
	@echo '  deb          the Debian package rust-vhost-vdpa-dkms, built twice and compared'
	@echo '  package-check  install, boot, load, refuse, remove: the package on a machine of its own'
	@echo '  shell        the same VM with the modules loaded and a prompt'
	@echo '  modules      build all modules (also with KDIR=)'
	@echo '  modules_install, clean      as in any kernel module (install needs KDIR=)'
	@echo '  setup        prepare the root and the stock build tree; the targets above do it themselves'
	@echo '  refresh      look for a newer kernel in the archive and prepare that'
	@echo '  fmt, fmtcheck, clippy       the Rust tools, at the versions of the kernel build'
	@echo '  cache-clean  remove everything that was prepared'
	@echo
	@echo 'KERNEL=NAME chooses a kernel: '"$$(awk '$$1 == "kernel" { printf "%s%s", sep, $$2; sep = ", " }' tools/kernels)"
	@echo 'Variables: DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR, DEBIAN_EXPIRED=1, VHOST_VDPA_CACHE, VM_ACCEL=kvm|tcg'

ifdef KDIR

# In the kernel's own tree Kconfig would say so.
kmake = $(MAKE) -C $(KDIR) M=$(CURDIR) CONFIG_RUST_VHOST_VDPA=m CONFIG_RUST_VDPA_SIM_NET=m CONFIG_RUST_VDPA_SIM_BLK=m CONFIG_RUST_MLX5_COMPAT=m CONFIG_RUST_VDPA_SAMPLE=m

modules modules_install:
	@tools/build/check-kdir.sh '$(KDIR)'
	$(kmake) $@

clippy:
	@tools/build/check-kdir.sh '$(KDIR)'
	$(kmake) CLIPPY=1 modules

else

modules: setup
	@tools/guard.sh tools/build/build.sh modules

clippy: setup
	@tools/guard.sh tools/build/build.sh clippy

modules_install:
	@echo 'modules_install needs KDIR=, the tree of the kernel to install for' >&2; false

endif

setup:
	@tools/guard.sh tools/setup.sh

refresh:
	@tools/guard.sh tools/setup.sh --refresh

demo:
	@tools/guard.sh tools/suites/demo/demo.sh

check:
	@tools/guard.sh tools/check.sh

kernels:
	@tools/guard.sh tools/suites/kernels/kernels.sh

clients:
	@tools/guard.sh tools/suites/clients/clients.sh

fuzz:
	@tools/guard.sh tools/suites/fuzz/fuzz.sh $(or $(SECONDS),300)

soak:
	@tools/guard.sh tools/suites/soak/soak.sh

bench:
	@tools/guard.sh tools/bench/bench.sh

speed:
	@tools/guard.sh tools/bench/sim-speed.sh

parity:
	@tools/guard.sh tools/suites/selftests/parity.sh

shell: modules
	@tools/vm.sh -m 3G --shell

deb:
	@tools/guard.sh tools/package/deb.sh

package-check:
	@tools/guard.sh tools/package/package-check.sh

fmt fmtcheck: setup
	@tools/guard.sh tools/build/build.sh $@

clean:
	@tools/clean.sh

cache-clean:
	@tools/clean.sh --cache

endif
