# SPDX-License-Identifier: GPL-2.0
# What the selftests share, built once and linked with each of them: included by their Makefile.

LIBVDPA_TEST_C := bus.c
LIBVDPA_TEST_C += call.c
LIBVDPA_TEST_C += files.c
LIBVDPA_TEST_C += job.c
LIBVDPA_TEST_C += mgmt.c
LIBVDPA_TEST_C += netlink.c
LIBVDPA_TEST_C += pages.c
LIBVDPA_TEST_C += pair.c
LIBVDPA_TEST_C += queue.c
LIBVDPA_TEST_C += sync.c
LIBVDPA_TEST_C += test_parent.c
LIBVDPA_TEST_C += vdpa.c
LIBVDPA_TEST_C += vduse.c
LIBVDPA_TEST_C += virtio.c
LIBVDPA_TEST_C += workers.c

# What the 32-bit programs need of it, on nolibc.
LIBVDPA_TEST_C32 := files.c
LIBVDPA_TEST_C32 += pages.c
LIBVDPA_TEST_C32 += vdpa.c

LIBVDPA_TEST_O := $(patsubst %.c,$(O)/lib/%.o,$(LIBVDPA_TEST_C))
LIBVDPA_TEST_O32 := $(patsubst %.c,$(O)/lib32/%.o,$(LIBVDPA_TEST_C32))
LIBVDPA_TEST_DEPS := $(wildcard lib/include/*.h) lib/libvdpa_test.mk Makefile

override CFLAGS += -I lib/include

$(O)/lib $(O)/lib32:
	mkdir -p $@

$(LIBVDPA_TEST_O): $(O)/lib/%.o: lib/%.c $(LIBVDPA_TEST_DEPS) | $(O)/lib $(KSELFTEST)
	$(CC) $(CFLAGS) -c -o $@.part $< && mv $@.part $@

$(LIBVDPA_TEST_O32): $(O)/lib32/%.o: lib/%.c $(LIBVDPA_TEST_DEPS) nolibc32.h | $(O)/lib32 $(KSELFTEST)
	$(CC) $(CFLAGS) $(CFLAGS32) -c -o $@.part $< && mv $@.part $@
