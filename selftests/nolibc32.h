/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests need and nolibc lacks, for their 32-bit builds: those use the
 * kernel's nolibc, because a 32-bit C library to link with is rarely installed.
 */
#ifndef VDPA_TEST_NOLIBC32_H
#define VDPA_TEST_NOLIBC32_H

#include <nolibc.h>
#include <glob.h>

#define SYS_capset	__NR_capset
#define SYS_pidfd_open	__NR_pidfd_open

static inline int mprotect(void *addr, size_t len, int prot)
{
	return syscall(__NR_mprotect, addr, len, prot);
}

static inline int madvise(void *addr, size_t len, int advice)
{
	return syscall(__NR_madvise, addr, len, advice);
}

static inline ssize_t pread(int fd, void *buf, size_t len, long long off)
{
	return syscall(__NR_pread64, fd, buf, len, (long)off, (long)(off >> 32));
}

static inline ssize_t pwrite(int fd, const void *buf, size_t len, long long off)
{
	return syscall(__NR_pwrite64, fd, buf, len, (long)off, (long)(off >> 32));
}

static inline ssize_t pwritev(int fd, const struct iovec *iov, int n, long long off)
{
	return syscall(__NR_pwritev, fd, iov, n, (long)off, (long)(off >> 32));
}

static inline int eventfd(unsigned int value, int flags)
{
	return syscall(__NR_eventfd2, value, flags);
}

/* No search for a device: VHOST_VDPA_DEV has to name it. */
#define glob(pattern, flags, error, result)	((void)(result), 1)
#define globfree(result)			((void)(result))

#endif
