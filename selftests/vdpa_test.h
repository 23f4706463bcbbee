/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every vhost-vdpa selftest shares: finding and opening the device, calls
 * that return -errno, IOTLB messages, memory to map, and what is pinned.
 *
 * VHOST_VDPA_DEV names the device (default: the first /dev/vhost-vdpa-*).
 * DRIVER is rust or c (default: whichever module is loaded). A test that C fails for a
 * known reason says so with C_MAY_DIFFER(); a C without that fault passes it.
 *
 * Documentation/testing.rst has a table from faults of the C driver to the tests that hold them.
 */
#ifndef VDPA_TEST_H
#define VDPA_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

/* Only hangs are to end by it: an emulated debug kernel on a busy machine is slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180

#define PAGE		4096UL
#define BACKEND(bit)	(1ULL << VHOST_BACKEND_F_##bit)
#define FEATURE(bit)	(1ULL << (bit))

#define STATUS_ACK	VIRTIO_CONFIG_S_ACKNOWLEDGE
#define STATUS_DRIVER	(STATUS_ACK | VIRTIO_CONFIG_S_DRIVER)
#define STATUS_FEATURES	(STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATUS_RUNNING	(STATUS_FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

/* What the simulators insist on, and a modern guest acknowledges. */
#define FEATURES_MODERN	(FEATURE(VIRTIO_F_VERSION_1) | \
			 FEATURE(VIRTIO_F_ACCESS_PLATFORM))

/* The kernel's own errno that reaches userspace from mmap(). */
#ifndef ENOTSUPP
#define ENOTSUPP	524
#endif

/* An address that no process has anything at. */
#define BAD_PTR		((void *)1)

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
		SKIP(return, "C waits for the close (" C_SEEN ")"); \
} while (0)

static inline bool on_c_driver(void)
{
	const char *driver = getenv("DRIVER");

	if (driver)
		return !strcmp(driver, "c");
	return access("/sys/module/rust_vhost_vdpa", F_OK) != 0;
}

/* ioctl() that returns -errno. */
static inline int vioctl(int fd, unsigned long cmd, void *arg)
{
	int r = ioctl(fd, cmd, arg);

	return r < 0 ? -errno : r;
}

/* The path of the device under test, or NULL. */
static inline const char *vdpa_path(void)
{
	static char path[64];
	const char *env = getenv("VHOST_VDPA_DEV");
	glob_t g;

	if (env)
		return env;
	if (!path[0] && !glob("/dev/vhost-vdpa-*", 0, NULL, &g)) {
		snprintf(path, sizeof(path), "%s", g.gl_pathv[0]);
		globfree(&g);
	}
	return path[0] ? path : NULL;
}

static inline int vdpa_open_flags(int flags)
{
	int fd = open(vdpa_path(), flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int vdpa_open(void)
{
	return vdpa_open_flags(O_RDWR);
}

/* Open the device into var: no device is a skip, a device that fails is not. */
#define OPEN_OR_SKIP(var) do {						\
	if (!vdpa_path())						\
		SKIP(return, "no /dev/vhost-vdpa-* and no VHOST_VDPA_DEV"); \
	(var) = vdpa_open();						\
	ASSERT_LE(0, (var));						\
} while (0)

/* What the device says of itself: all of it may be asked before SET_OWNER. */
struct vdpa_caps {
	uint32_t device_id;
	uint32_t nvqs;
	uint32_t ngroups;
	uint32_t nas;
	uint32_t config_size;
	uint16_t num_max;
	uint64_t features;
	uint64_t backend;
	struct vhost_vdpa_iova_range range;
	uint64_t iova;		/* where the tests map by default */
};

static inline int vdpa_get_caps(int fd, struct vdpa_caps *c)
{
	int r = 0;

	memset(c, 0, sizeof(*c));
	r = r ?: vioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &c->device_id);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_VQS_COUNT, &c->nvqs);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_GROUP_NUM, &c->ngroups);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_AS_NUM, &c->nas);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_CONFIG_SIZE, &c->config_size);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_VRING_NUM, &c->num_max);
	r = r ?: vioctl(fd, VHOST_GET_FEATURES, &c->features);
	r = r ?: vioctl(fd, VHOST_GET_BACKEND_FEATURES, &c->backend);
	r = r ?: vioctl(fd, VHOST_VDPA_GET_IOVA_RANGE, &c->range);
	c->iova = 0x10000000;
	if (c->iova < c->range.first)
		c->iova = (c->range.first + PAGE - 1) & ~(PAGE - 1);
	return r;
}

static inline int set_status(int fd, uint8_t status)
{
	return vioctl(fd, VHOST_VDPA_SET_STATUS, &status);
}

static inline int get_status(int fd)
{
	uint8_t status;
	int r = vioctl(fd, VHOST_VDPA_GET_STATUS, &status);

	return r ?: status;
}

static inline int set_features(int fd, uint64_t features)
{
	return vioctl(fd, VHOST_SET_FEATURES, &features);
}

static inline int set_backend_features(int fd, uint64_t features)
{
	return vioctl(fd, VHOST_SET_BACKEND_FEATURES, &features);
}

/* Through the handshake to FEATURES_OK, without any queue. */
static inline int negotiate(int fd)
{
	int r = set_status(fd, STATUS_ACK);

	r = r ?: set_status(fd, STATUS_DRIVER);
	r = r ?: set_features(fd, FEATURES_MODERN);
	return r ?: set_status(fd, STATUS_FEATURES);
}

static inline int vring_state(int fd, unsigned long cmd, unsigned int index,
			      unsigned int num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return vioctl(fd, cmd, &s);
}

/* The value that a GET ioctl writes into num, or -errno. */
static inline int vring_get(int fd, unsigned long cmd, unsigned int index)
{
	struct vhost_vring_state s = { .index = index, .num = 0xdeadbeef };
	int r = vioctl(fd, cmd, &s);

	if (r)
		return r;
	return s.index == index ? (int)s.num : -EBADMSG;
}

static inline int vring_file(int fd, unsigned long cmd, unsigned int index,
			     int file)
{
	struct vhost_vring_file f = { .index = index, .fd = file };

	return vioctl(fd, cmd, &f);
}

static inline int vring_addr(int fd, unsigned int index, uint64_t desc,
			     uint64_t avail, uint64_t used)
{
	struct vhost_vring_addr a = {
		.index = index,
		.desc_user_addr = desc,
		.avail_user_addr = avail,
		.used_user_addr = used,
	};

	return vioctl(fd, VHOST_SET_VRING_ADDR, &a);
}

/*
 * As the kernel lays it out, with its hole: on 32-bit x86 struct vhost_msg has
 * none, so there the uapi's V1 messages have never worked.
 */
struct msg_v1 {
	uint32_t type;
	uint32_t hole;
	union {
		struct vhost_iotlb_msg iotlb;
		uint8_t padding[64];
	};
};

/* write() of a whole message: 0 or -errno, -EIO for any other length. */
static inline int iotlb_write(int fd, const void *msg, size_t len)
{
	ssize_t r = write(fd, msg, len);

	if (r < 0)
		return -errno;
	return r == (ssize_t)len ? 0 : -EIO;
}

static inline int iotlb_v1(int fd, int type, uint64_t iova, uint64_t size,
			   const void *uaddr, int perm)
{
	struct msg_v1 m = {
		.type = VHOST_IOTLB_MSG,
		.iotlb = {
			.iova = iova,
			.size = size,
			.uaddr = (uintptr_t)uaddr,
			.perm = perm,
			.type = type,
		},
	};

	return iotlb_write(fd, &m, sizeof(m));
}

static inline int iotlb_v2(int fd, uint32_t asid, int type, uint64_t iova,
			   uint64_t size, const void *uaddr, int perm)
{
	struct vhost_msg_v2 m = {
		.type = VHOST_IOTLB_MSG_V2,
		.asid = asid,
		.iotlb = {
			.iova = iova,
			.size = size,
			.uaddr = (uintptr_t)uaddr,
			.perm = perm,
			.type = type,
		},
	};

	return iotlb_write(fd, &m, sizeof(m));
}

static inline int iotlb_map(int fd, uint64_t iova, uint64_t size,
			    const void *uaddr)
{
	return iotlb_v2(fd, 0, VHOST_IOTLB_UPDATE, iova, size, uaddr,
			VHOST_ACCESS_RW);
}

static inline int iotlb_unmap(int fd, uint64_t iova, uint64_t size)
{
	return iotlb_v2(fd, 0, VHOST_IOTLB_INVALIDATE, iova, size, NULL, 0);
}

static inline int iotlb_batch(int fd, uint32_t asid, bool begin)
{
	return iotlb_v2(fd, asid, begin ? VHOST_IOTLB_BATCH_BEGIN :
			VHOST_IOTLB_BATCH_END, 0, 0, NULL, 0);
}

/*
 * Shared memory with every page present: what each kind of parent can map, by
 * physical address or, since it has a file, by user address.
 */
static inline void *shared_pages(size_t len)
{
	int fd = memfd_create("vdpa", 0);
	void *p;

	if (fd < 0 || ftruncate(fd, len))
		return NULL;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		 fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static inline void *private_pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* One mapped page followed by one without access: where structs get torn. */
static inline void *guarded_page(void)
{
	char *p = private_pages(2 * PAGE);

	if (!p || mprotect(p + PAGE, PAGE, PROT_NONE))
		return NULL;
	return p;
}

/* A KEY's number in a file of "KEY value" lines, or -1. */
static inline long read_key(const char *file, const char *key)
{
	char line[256];
	FILE *f = fopen(file, "r");
	long v = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key))) {
			v = strtol(line + strlen(key), NULL, 10);
			break;
		}
	}
	fclose(f);
	return v;
}

/* Pages that this process has pinned (VmPin). */
static inline long pinned_self(void)
{
	long kb = read_key("/proc/self/status", "VmPin:");

	return kb < 0 ? -1 : kb * 1024 / (long)PAGE;
}

/* Pages that are pinned in the whole system at this moment, whoever pinned them. */
static inline long pinned_system_now(void)
{
	long acquired = 0, released = 0;
	char line[256];
	int fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);
	FILE *f;

	/* The counters are kept per CPU; reading this file adds them up. */
	if (fd >= 0) {
		if (read(fd, line, sizeof(line)) < 0)
			line[0] = 0;
		close(fd);
	}
	/* Both from one reading, or they are of two moments. */
	f = fopen("/proc/vmstat", "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "nr_foll_pin_acquired %ld", &acquired);
		sscanf(line, "nr_foll_pin_released %ld", &released);
	}
	fclose(f);
	return acquired - released;
}

/*
 * The same once it stays so: others (udev and its children, reading from a 9p
 * root) pin pages for the moment of a read. What tests start from.
 */
static inline long pinned_system(void)
{
	long seen = pinned_system_now(), now;
	int i, same = 0;

	for (i = 0; i < 250 && same < 4; i++) {
		usleep(20000);
		now = pinned_system_now();
		same = now == seen ? same + 1 : 0;
		seen = now;
	}
	return seen;
}

/* Wait for the system-wide count to come to want; return what it came to. */
static inline long wait_pinned_system(long want)
{
	long seen = 0;
	int i;

	for (i = 0; i < 50; i++) {
		seen = pinned_system_now();
		if (seen == want)
			break;
		usleep(100000);
	}
	return seen;
}

/*
 * Whether the parent's maps pin pages. One with user virtual addresses (VDUSE,
 * a simulator with use_va) does not. The caller owns the device.
 */
static inline int parent_pins(int fd, uint64_t iova)
{
	void *p = shared_pages(PAGE);
	long before = pinned_self();
	int pins, r;

	if (!p)
		return -ENOMEM;
	r = iotlb_map(fd, iova, PAGE, p);
	if (r)
		return r;
	pins = pinned_self() == before + 1;
	r = iotlb_unmap(fd, iova, PAGE);
	munmap(p, PAGE);
	return r ?: pins;
}

/* The frame in an entry of /proc/self/pagemap, or 0 where no page is in the page table. */
static inline uint64_t frame_in(uint64_t entry)
{
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* The frame of the page at p, or 0. Needs CAP_SYS_ADMIN. */
static inline uint64_t page_frame(int pagemap, const void *p)
{
	uint64_t e;

	return pread(pagemap, &e, sizeof(e), (uintptr_t)p / PAGE * 8) == sizeof(e) ? frame_in(e) : 0;
}

/* The physical address of the page at p, or 0. Needs CAP_SYS_ADMIN. */
static inline uint64_t physical(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t found = fd < 0 ? 0 : page_frame(fd, p);

	close(fd);
	return found * PAGE;
}

/* The offset of a page of p after which the next lies in physical memory too, or -1. */
static inline long find_contiguous(int pagemap, const void *p, size_t len)
{
	uint64_t e[2];
	long off;

	for (off = 0; off + 2 * PAGE <= len; off += PAGE) {
		if (pread(pagemap, e, sizeof(e), ((uintptr_t)p + off) / PAGE * 8) !=
		    sizeof(e))
			break;
		if (frame_in(e[0]) && frame_in(e[0]) + 1 == frame_in(e[1]))
			return off;
	}
	return -1;
}

/*
 * Two pages of what alloc returns that are neighbours in physical memory, or NULL. How
 * many have to be looked through depends on what ran before. Needs CAP_SYS_ADMIN.
 */
static inline void *contiguous_pages(void *(*alloc)(size_t))
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	char *found = NULL;
	size_t len;

	for (len = 512 * PAGE; fd >= 0 && !found && len <= 16384 * PAGE; len *= 2) {
		char *p = alloc(len);
		long off = p ? find_contiguous(fd, p, len) : -1;

		if (off >= 0)
			found = p + off;
		else if (p)
			munmap(p, len);
	}
	close(fd);
	return found;
}

/* Drop every capability of this thread. */
static inline int drop_capabilities(void)
{
	struct { uint32_t version; int pid; } head = { 0x20080522, 0 };
	struct { uint32_t effective, permitted, inheritable; } data[2] = {};

	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

static inline int limit_memlock(size_t pages)
{
	struct rlimit l = { pages * PAGE, pages * PAGE };

	return setrlimit(RLIMIT_MEMLOCK, &l) ? -errno : 0;
}

#endif
