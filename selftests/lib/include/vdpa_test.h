/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every vhost-vdpa selftest includes: the harness, and what it asserts of calls, of pages and
 * of C's driver. A test that C fails for a known reason says so with C_MAY_DIFFER(); a C without
 * that fault passes it.
 *
 * Documentation/testing.rst has a table from faults of the C driver to the tests that hold them.
 */
#ifndef VDPA_TEST_H
#define VDPA_TEST_H

#include "vdpa.h"

#include "kselftest_harness.h"

#include "files.h"
#include "pages.h"

/* Only hangs are to end by it: an emulated debug kernel on a busy machine is slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180

#define ASSERT_OK(call)			ASSERT_EQ(0, (call))
#define EXPECT_OK(call)			EXPECT_EQ(0, (call))
#define ASSERT_ERRNO(err, call)		ASSERT_EQ(-(err), (call))
#define EXPECT_ERRNO(err, call)		EXPECT_EQ(-(err), (call))

/* The kernels whose C driver was seen to do what the tests expect of C. */
#define C_SEEN		"seen on 7.2.12 and 7.3.4"

/*
 * The C driver did here what it is known to do wrong: end the test as an expected
 * failure, unless something else has failed. Not for a C that does it right.
 */
#define C_DIFFERS(what) do {						\
	if (_metadata->exit_code != KSFT_FAIL) {			\
		snprintf(_metadata->results->reason,			\
			 sizeof(_metadata->results->reason),		\
			 "C differs: %s (" C_SEEN ")", what);		\
		_metadata->exit_code = KSFT_XFAIL;			\
	}								\
} while (0)

/*
 * End the test as an expected failure if the C driver is WRONG in the way it is known to
 * be. A C that has been fixed goes on, and passes or fails as this driver does.
 */
#define C_MAY_DIFFER(wrong, what) do {					\
	if (on_c_driver() && (wrong)) {					\
		C_DIFFERS(what);					\
		return;							\
	}								\
} while (0)

/* What cannot be tried on C, because it harms the machine: its versions are named. */
#define NOT_TRIED_ON_C(what) do {					\
	if (on_c_driver())						\
		SKIP(return, "C differs: " what " (" C_SEEN ")");	\
} while (0)

/* Removal with the file open: C waits for the close. */
#define C_WAITS() do {							\
	if (on_c_driver())						\
		SKIP(return, "C waits for the close (" C_SEEN ")");	\
} while (0)

/* Open the device into var: no device is a skip, a device that fails is not. */
#define OPEN_OR_SKIP(var) do {						\
	if (!vdpa_path())						\
		SKIP(return, "no /dev/vhost-vdpa-* and no VHOST_VDPA_DEV"); \
	(var) = vdpa_open();						\
	ASSERT_LE(0, (var));						\
} while (0)

/* Close the file of a fixture and open the device again. */
#define REOPEN() do {							\
	ASSERT_EQ(0, close(self->fd));					\
	self->fd = vdpa_open();						\
	ASSERT_LE(0, self->fd);						\
} while (0)

/* For fixtures with a node and the file that is open of it, or -1. */
#define OPEN_NODE() do {						\
	self->fd = node_open(self->node);				\
	ASSERT_LE(0, self->fd);						\
} while (0)

#define CLOSE_NODE() do {						\
	ASSERT_EQ(0, close(self->fd));					\
	self->fd = -1;							\
} while (0)

#define OWN() do {							\
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));		\
} while (0)

/* Nothing is pinned any more, in the system no more than before the test. */
#define EXPECT_UNPINNED() do {						\
	EXPECT_EQ(0, pinned_self());					\
	EXPECT_EQ(self->system, wait_pinned_system(self->system));	\
} while (0)

#endif
