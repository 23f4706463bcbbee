/* SPDX-License-Identifier: GPL-2.0 */
/* The parent of selftests/modules/vdpa_test_parent.c: its knobs and what it says. */
#ifndef VDPA_TEST_PARENT_H
#define VDPA_TEST_PARENT_H

#include "netlink.h"

#define TEST_MGMTDEV	"vdpa_test"
#define TEST_STATE	"/sys/kernel/debug/vdpa_test/"

enum { STYLE_SET_MAP, STYLE_DMA_MAP, STYLE_NEITHER, STYLE_VA };
enum { CALL_NONE, CALL_HARDIRQ, CALL_TRIGGER, CALL_WORKER };

int knob(const char *name, int value);

int knobs_reset(void);

/* Nothing is left of a device of that name, knobs are at rest, the next device has the style. */
int parent_fresh(const char *name, int style);

static inline int parent_add(const char *name, char *node)
{
	return nl_add(name, TEST_MGMTDEV, node);
}

/* A counter of device NAME, or -1. */
long told(const char *name, const char *key);

/*
 * The control file of the latches of device NAME's ops, or -errno. Close it, or end, and all that
 * waits goes on.
 */
int ops_open(const char *name);

/* Give the control file an order, as vdpa_test_parent.c lists them: 0 or -errno. */
int ops_order(int ops, const char *what, const char *op, int n);

/* The number behind KEY and a space, in text of such lines; or -1. */
long told_in(const char *text, const char *key);

/* What the control file tells under KEY, with OP behind it if that is not empty; or -1. */
long ops_told(int ops, const char *key, const char *op);

/* Wait until n calls of an op wait at a latch: 0 or -ETIMEDOUT. */
int ops_wait(int ops, const char *op, int n);

/* Everything that device NAME can reach, one line a range. */
int told_maps(const char *name, char *buf, size_t len);

/* In tests and fixtures: */
#define NEEDS_TEST_PARENT() do {					\
	if (!nl_has_mgmtdev(TEST_MGMTDEV))				\
		SKIP(return, "vdpa_test_parent is not loaded");		\
} while (0)

/* The beginning of a fixture with a device of the parent, which is still to be made. */
#define TEST_PARENT_SETUP(name, style) do {				\
	NEEDS_TEST_PARENT();						\
	ASSERT_OK(parent_fresh(name, style));				\
	self->system = pinned_system();					\
} while (0)

/* Its end. What a parent is told to refuse is forgotten first. */
#define TEST_PARENT_TEARDOWN(name, file) do {				\
	if (!nl_has_mgmtdev(TEST_MGMTDEV))				\
		return;							\
	knobs_reset();							\
	if ((file) >= 0)						\
		close(file);						\
	nl_del_if_there(name);						\
} while (0)

#endif
