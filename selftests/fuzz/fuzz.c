// SPDX-License-Identifier: GPL-2.0
/*
 * Differential fuzzing of /dev/vhost-vdpa-N: one seed, one sequence of calls.
 *
 *   fuzz [-d] [-v] [-m FILE] [-t SECONDS] [-r NAME] DEVICE FIRST-SEED SEEDS OPERATIONS
 *
 *   -d		the parent takes single maps (dma_map), not tables (set_map)
 *   -v		the parent takes user virtual addresses
 *   -m FILE	shared memory comes from this file on a tmpfs
 *   -t SECONDS	two threads on one file, without a log: only survival counts
 *   -r NAME	vDPA device NAME goes now and then: on our driver with the file open, where every
 *		call has to fail with ENODEV and nothing is pinned, on C's after a close, as C waits.
 *		FUZZ_ADD is the command that makes it, FUZZ_KILL one that kills the daemon behind it
 *		and returns when another one has adopted the device.
 *
 * What is called follows from the seed and from what earlier calls returned, and
 * the log has neither pointers that the kernel chose nor times: two drivers that
 * agree give the same log. compare.py says where they may differ. Where they
 * differ by intent the call has a tag, and calls that bring both drivers back to
 * the same state follow it ("sync").
 *
 * How far physical memory is contiguous decides which ranges a driver makes of
 * an update, so the arena's pages are arranged until that is known.
 *
 * No queue is kicked once it may be ready: C's driver leaves the simulator's 1:1
 * map of all memory in place, and the rings here are anywhere.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PICK(a)		((a)[below(ARRAY_SIZE(a))])

/* Where things are: fixed, so that addresses may be logged. */
#define ARENA		0x30000000UL
#define ARENA_PAGES	1024
#define ARGS		0x20000000UL	/* for each thread: RW, RW, none, RO */
#define ARGS_STRIDE	(16 * PAGE)

/* The arena, by page. */
#define SCATTERED	0	/* shared, no two pages contiguous */
#define QUADS		24	/* shared, runs of four contiguous pages */
#define ANON		48	/* private, no two pages contiguous */
#define READ_ONLY	72	/* shared, scattered */
#define NO_ACCESS	76	/* private, PROT_NONE */
#define HOLE		80	/* nothing */
#define ANON2		84	/* as ANON */
#define WRITE_ONLY	92	/* shared, scattered */
#define BEYOND_EOF	96	/* two pages of a file, two after its end */
#define SECRET		100	/* memfd_secret, or nothing */
#define END_SMALL	104
#define HUGE		512	/* one huge page */

static const char *device, *memory;
static bool dma_map, use_va, quiet, have_compat, have_huge, have_secret;
static int pagemap = -1;
static int events[4], pipes[2];
static uint32_t config_size;
static volatile int vfd = -1;

/* What the generator knows; each thread believes it is alone. */
static __thread uint64_t rng;
static __thread unsigned long seqno;
static __thread char *args;
static __thread bool owner, suspended, in_batch, held, maybe_ready;
static __thread uint8_t status;
static __thread uint64_t acked;
static __thread uint32_t batch_asid;
static __thread bool num_taint[3];
static __thread char tags[64];
static __thread bool syncing;

static void die(const char *what)
{
	fprintf(stderr, "fuzz: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t rnd(void)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static unsigned int below(unsigned int n)
{
	return rnd() % n;
}

static bool one_in(unsigned int n)
{
	return below(n) == 0;
}

static void tag(const char *t)
{
	if (tags[0])
		strcat(tags, ",");
	strcat(tags, t);
}

/* One line an operation: number, what, result, what was read, tags. */
static void report(long ret, const uint8_t *data, size_t len,
		   const char *fmt, ...)
{
	va_list ap;
	size_t i;

	seqno++;
	if (!quiet) {
		printf("%lu ", seqno);
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		printf(" = %ld", ret);
		if (len)
			putchar(' ');
		for (i = 0; i < len; i++)
			printf("%02x", data[i]);
		if (syncing)
			printf(" !sync");
		if (tags[0])
			printf(" #%s", tags);
		putchar('\n');
	}
	tags[0] = 0;
}

static long result(long r)
{
	return r < 0 ? -errno : r;
}

/* ---- memory ---- */

static uint64_t pfn_of(const void *p)
{
	uint64_t e;

	if (pread(pagemap, &e, sizeof(e), (uintptr_t)p / PAGE * 8) != sizeof(e))
		return 0;
	return e >> 63 ? e & ((1ULL << 55) - 1) : 0;
}

static char *arena(unsigned int page)
{
	return (char *)ARENA + page * PAGE;
}

static void map_file(unsigned int page, unsigned int n, int prot, int fd,
		     unsigned int filepage)
{
	/* Whether a page was touched shows in the arena's shape. */
	if (mmap(arena(page), n * PAGE, prot, MAP_SHARED | MAP_FIXED |
		 MAP_POPULATE, fd, filepage * PAGE) == MAP_FAILED)
		die("mmap");
}

/* Map n pages of the file, none of which continues the page before it. */
static void place_scattered(unsigned int page, unsigned int n, int prot, int fd,
			    uint64_t *pfns, unsigned int total)
{
	uint64_t last = pfn_of(arena(page) - PAGE);
	unsigned int i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < total; k++)
			if (pfns[k] && pfns[k] != last + 1)
				break;
		if (k == total)
			die("no scattered pages");
		map_file(page + i, 1, prot, fd, k);
		last = pfns[k];
		pfns[k] = 0;
	}
}

static void place_quads(unsigned int page, unsigned int n, int fd,
			uint64_t *pfns, unsigned int total)
{
	uint64_t last = pfn_of(arena(page) - PAGE);
	unsigned int i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k + 4 <= total; k++)
			if (pfns[k] && pfns[k] != last + 1 &&
			    pfns[k + 1] == pfns[k] + 1 &&
			    pfns[k + 2] == pfns[k] + 2 &&
			    pfns[k + 3] == pfns[k] + 3)
				break;
		if (k + 4 > total)
			die("no contiguous pages");
		map_file(page + 4 * i, 4, PROT_READ | PROT_WRITE, fd, k);
		last = pfns[k + 3];
		memset(pfns + k, 0, 4 * sizeof(*pfns));
	}
}

static void place_anon(unsigned int page, unsigned int n)
{
	enum { TOTAL = 256 };
	char *from = mmap(NULL, TOTAL * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t pfns[TOTAL], last = pfn_of(arena(page) - PAGE);
	unsigned int i, k;

	if (from == MAP_FAILED)
		die("mmap");
	madvise(from, TOTAL * PAGE, MADV_NOHUGEPAGE);
	memset(from, 1, TOTAL * PAGE);
	for (k = 0; k < TOTAL; k++)
		pfns[k] = pfn_of(from + k * PAGE);
	for (i = 0; i < n; i++) {
		for (k = 0; k < TOTAL; k++)
			if (pfns[k] && pfns[k] != last + 1)
				break;
		if (k == TOTAL)
			die("no scattered private pages");
		if (mremap(from + k * PAGE, PAGE, PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, arena(page + i)) ==
		    MAP_FAILED)
			die("mremap");
		last = pfns[k];
		pfns[k] = 0;
	}
	munmap(from, TOTAL * PAGE);
}

/*
 * Shared pages come from a file on a tmpfs, so that all runs use the same ones:
 * physical memory gets less and less contiguous. From low to high, since each
 * page is chosen by the one before it.
 */
static void make_arena(void)
{
	enum { TOTAL = 2048, CHOICE = TOTAL - 2 };
	static uint64_t pfns[TOTAL];
	int rw = PROT_READ | PROT_WRITE;
	int fd = memory ? open(memory, O_RDWR | O_CREAT | O_CLOEXEC, 0600) :
		 memfd_create("fuzz", MFD_CLOEXEC);
	char *all;
	unsigned int k;

	if (mmap(arena(0) - PAGE, (1 + ARENA_PAGES) * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
	    arena(0) - PAGE)
		die("the arena's place is taken");
	munmap(arena(0) - PAGE, PAGE);
	if (fd < 0 || ftruncate(fd, TOTAL * PAGE))
		die("the arena's file");
	all = mmap(NULL, TOTAL * PAGE, rw, MAP_SHARED, fd, 0);
	if (all == MAP_FAILED)
		die("mmap");
	memset(all, 1, TOTAL * PAGE);
	for (k = 0; k < TOTAL; k++)
		pfns[k] = pfn_of(all + k * PAGE);
	/* Runs of pages are few: first come. */
	place_quads(QUADS, 6, fd, pfns, CHOICE);
	place_scattered(SCATTERED, QUADS - SCATTERED, rw, fd, pfns, CHOICE);
	place_anon(ANON, READ_ONLY - ANON);
	place_scattered(READ_ONLY, 4, PROT_READ, fd, pfns, CHOICE);
	munmap(arena(HOLE), 4 * PAGE);
	place_anon(ANON2, WRITE_ONLY - ANON2);
	place_scattered(WRITE_ONLY, 4, PROT_WRITE, fd, pfns, CHOICE);
	map_file(BEYOND_EOF, 4, rw, fd, CHOICE);
	munmap(arena(SECRET), (HUGE - SECRET) * PAGE);
	munmap(all, TOTAL * PAGE);
	close(fd);
#ifdef SYS_memfd_secret
	fd = syscall(SYS_memfd_secret, 0);
	if (fd >= 0 && !ftruncate(fd, 4 * PAGE) &&
	    mmap(arena(SECRET), 4 * PAGE, rw, MAP_SHARED | MAP_FIXED, fd, 0) !=
	    MAP_FAILED) {
		have_secret = true;
		memset(arena(SECRET), 1, 4 * PAGE);
	}
	if (fd >= 0)
		close(fd);
#endif
	if (mmap(arena(HUGE), 512 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS |
		 MAP_FIXED | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0) !=
	    MAP_FAILED) {
		have_huge = true;
		memset(arena(HUGE), 1, 512 * PAGE);
	} else {
		munmap(arena(HUGE), 512 * PAGE);
	}
	/* A child's share in private pages would have them copied. */
	for (k = 0; k < ARENA_PAGES; k++)
		madvise(arena(k), PAGE, MADV_DONTFORK);
}

/* Which pages are there, and which continue the one before. */
static uint64_t arena_shape(void)
{
	uint64_t h = have_huge | have_secret << 1, last = 0, pfn;
	unsigned int k;

	/* Nobody can pin secrets, and a huge page is contiguous by itself. */
	for (k = 0; k < SECRET; k++) {
		pfn = pfn_of(arena(k));
		h = h * 0x100000001b3ULL + !!pfn + 2 * (pfn && pfn == last + 1);
		last = pfn;
	}
	return h;
}

static long vm_pin(void)
{
	char buf[4096], *p;
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -1;
	buf[n] = 0;
	p = strstr(buf, "VmPin:");
	return p ? strtol(p + 6, NULL, 10) / 4 : -1;
}

static long system_pins(void)
{
	static char buf[65536];
	char *a, *r;
	ssize_t n;
	int fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);

	/* The counters are kept per CPU; reading this file adds them up. */
	if (fd < 0 || read(fd, buf, 8) < 0)
		die("/proc/sys/vm/stat_refresh");
	close(fd);
	fd = open("/proc/vmstat", O_RDONLY);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (n < 0)
		die("/proc/vmstat");
	close(fd);
	buf[n] = 0;
	a = strstr(buf, "nr_foll_pin_acquired ");
	r = strstr(buf, "nr_foll_pin_released ");
	if (!a || !r)
		die("/proc/vmstat counts no pins");
	return strtol(a + 21, NULL, 10) - strtol(r + 21, NULL, 10);
}

/* ---- removal ---- */

static const char *removed;	/* the name of the device, or NULL */
static const char *remake, *kill_daemon;
static bool ours;
static int helper_in[2], helper_out[2];
static pthread_mutex_t helper_lock = PTHREAD_MUTEX_INITIALIZER;

/* A process that has the capabilities that this one drops, and not the file. */
static void start_helper(void)
{
	char what, cmd[512];
	int r;

	if (pipe2(helper_in, O_CLOEXEC) || pipe2(helper_out, O_CLOEXEC))
		die("pipe");
	r = fork();
	if (r < 0)
		die("fork");
	if (r)
		return;
	close(helper_in[1]);
	while (read(helper_in[0], &what, 1) == 1) {
		switch (what) {
		case 'u': case 'b':
			snprintf(cmd, sizeof(cmd), "echo %s >/sys/bus/vdpa/drivers/vhost_vdpa/%sbind",
				 removed, what == 'u' ? "un" : "");
			break;
		case 'd':
			snprintf(cmd, sizeof(cmd), "vdpa dev del %s", removed);
			break;
		case 'a':
			snprintf(cmd, sizeof(cmd), "%s", remake);
			break;
		default:
			snprintf(cmd, sizeof(cmd), "%s", kill_daemon);
		}
		r = system(cmd);
		if (write(helper_out[1], &r, sizeof(r)) != sizeof(r))
			break;
	}
	_exit(0);
}

static void help(char what)
{
	int r;

	if (write(helper_in[1], &what, 1) != 1 || read(helper_out[0], &r, sizeof(r)) != sizeof(r))
		die("the helper");
	if (r) {
		fprintf(stderr, "fuzz: %c: status %#x\n", what, r);
		exit(2);
	}
}

/* ---- ioctls ---- */

enum kind { NOTHING, U8, U16, U32, U64, RANGE, STATE, FILEFD, ADDR, CONFIG,
	    MEMORY, FD };

static const struct call {
	const char *name;
	unsigned int cmd;
	enum kind kind;
	unsigned int weight;
} calls[] = {
	{ "GET_FEATURES", VHOST_GET_FEATURES, U64, 2 },
	{ "SET_FEATURES", VHOST_SET_FEATURES, U64, 6 },
	{ "SET_OWNER", VHOST_SET_OWNER, NOTHING, 3 },
	{ "RESET_OWNER", VHOST_RESET_OWNER, NOTHING, 1 },
	{ "SET_MEM_TABLE", VHOST_SET_MEM_TABLE, MEMORY, 2 },
	{ "SET_LOG_BASE", VHOST_SET_LOG_BASE, U64, 1 },
	{ "SET_LOG_FD", VHOST_SET_LOG_FD, FD, 1 },
	{ "NEW_WORKER", VHOST_NEW_WORKER, U32, 1 },
	{ "FREE_WORKER", VHOST_FREE_WORKER, U32, 1 },
	{ "SET_VRING_NUM", VHOST_SET_VRING_NUM, STATE, 8 },
	{ "SET_VRING_ADDR", VHOST_SET_VRING_ADDR, ADDR, 8 },
	{ "SET_VRING_BASE", VHOST_SET_VRING_BASE, STATE, 8 },
	{ "GET_VRING_BASE", VHOST_GET_VRING_BASE, STATE, 8 },
	{ "SET_VRING_ENDIAN", VHOST_SET_VRING_ENDIAN, STATE, 1 },
	{ "GET_VRING_ENDIAN", VHOST_GET_VRING_ENDIAN, STATE, 1 },
	{ "ATTACH_VRING_WORKER", VHOST_ATTACH_VRING_WORKER, STATE, 1 },
	{ "GET_VRING_WORKER", VHOST_GET_VRING_WORKER, STATE, 1 },
	{ "SET_VRING_KICK", VHOST_SET_VRING_KICK, FILEFD, 5 },
	{ "SET_VRING_CALL", VHOST_SET_VRING_CALL, FILEFD, 5 },
	{ "SET_VRING_ERR", VHOST_SET_VRING_ERR, FILEFD, 4 },
	{ "SET_BUSYLOOP", VHOST_SET_VRING_BUSYLOOP_TIMEOUT, STATE, 1 },
	{ "GET_BUSYLOOP", VHOST_GET_VRING_BUSYLOOP_TIMEOUT, STATE, 1 },
	{ "SET_BACKEND", VHOST_SET_BACKEND_FEATURES, U64, 4 },
	{ "GET_BACKEND", VHOST_GET_BACKEND_FEATURES, U64, 1 },
	{ "NET_SET_BACKEND", VHOST_NET_SET_BACKEND, FILEFD, 1 },
	{ "SCSI_ABI", VHOST_SCSI_GET_ABI_VERSION, U32, 1 },
	{ "VSOCK_CID", VHOST_VSOCK_SET_GUEST_CID, U64, 1 },
	{ "VSOCK_RUNNING", VHOST_VSOCK_SET_RUNNING, U32, 1 },
	{ "GET_DEVICE_ID", VHOST_VDPA_GET_DEVICE_ID, U32, 1 },
	{ "GET_STATUS", VHOST_VDPA_GET_STATUS, U8, 2 },
	{ "SET_STATUS", VHOST_VDPA_SET_STATUS, U8, 22 },
	{ "GET_CONFIG", VHOST_VDPA_GET_CONFIG, CONFIG, 5 },
	{ "SET_CONFIG", VHOST_VDPA_SET_CONFIG, CONFIG, 4 },
	{ "SET_VRING_ENABLE", VHOST_VDPA_SET_VRING_ENABLE, STATE, 6 },
	{ "GET_VRING_NUM", VHOST_VDPA_GET_VRING_NUM, U16, 2 },
	{ "SET_CONFIG_CALL", VHOST_VDPA_SET_CONFIG_CALL, FD, 4 },
	{ "GET_IOVA_RANGE", VHOST_VDPA_GET_IOVA_RANGE, RANGE, 1 },
	{ "GET_CONFIG_SIZE", VHOST_VDPA_GET_CONFIG_SIZE, U32, 1 },
	{ "GET_AS_NUM", VHOST_VDPA_GET_AS_NUM, U32, 1 },
	{ "GET_VRING_GROUP", VHOST_VDPA_GET_VRING_GROUP, STATE, 3 },
	{ "SET_GROUP_ASID", VHOST_VDPA_SET_GROUP_ASID, STATE, 5 },
	{ "SUSPEND", VHOST_VDPA_SUSPEND, NOTHING, 5 },
	{ "RESUME", VHOST_VDPA_RESUME, NOTHING, 4 },
	{ "GET_DESC_GROUP", VHOST_VDPA_GET_VRING_DESC_GROUP, STATE, 2 },
	{ "GET_VQS_COUNT", VHOST_VDPA_GET_VQS_COUNT, U32, 1 },
	{ "GET_GROUP_NUM", VHOST_VDPA_GET_GROUP_NUM, U32, 1 },
	{ "GET_VRING_SIZE", VHOST_VDPA_GET_VRING_SIZE, STATE, 3 },
	{ "GET_FEATURES_ARRAY", VHOST_GET_FEATURES_ARRAY, MEMORY, 1 },
	{ "SET_FEATURES_ARRAY", VHOST_SET_FEATURES_ARRAY, MEMORY, 1 },
	{ "SET_FORK_OWNER", VHOST_SET_FORK_FROM_OWNER, U8, 1 },
	{ "GET_FORK_OWNER", VHOST_GET_FORK_FROM_OWNER, U8, 1 },
};

static const unsigned int sizes[] = {
	[NOTHING] = 0, [U8] = 1, [U16] = 2, [U32] = 4, [U64] = 8, [RANGE] = 16,
	[STATE] = 8, [FILEFD] = 8, [ADDR] = 40, [FD] = 4,
};

static const uint64_t odd_numbers[] = {
	0, 1, 2, 3, 0x7f, 0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
	0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000,
	0xffffffffffffffff,
};

static uint32_t any_index(void)
{
	static const uint32_t odd[] = {
		3, 4, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff,
	};

	return one_in(16) ? PICK(odd) : below(3);
}

static int any_fd(void)
{
	static const int odd[] = { -2, 999, 0x7fffffff, -2147483647 - 1 };

	switch (below(12)) {
	case 0:
		return PICK(odd);
	case 1:
		return pipes[below(2)];
	case 2:
		return vfd;
	case 3: case 4:
		return -1;
	default:
		return PICK(events);
	}
}

/* In a log, eventfds have names; the numbers are the same in each run anyway. */
static uint64_t any_iova(void)
{
	static const uint64_t windows[] = {
		0, 0, 0x100000, 0x100000, 0x100000, 0x100000, 1ULL << 40,
		-(uint64_t)(16 * PAGE), 0x7ffffffffffff000,
	};

	if (one_in(40))
		return PICK(odd_numbers) - below(2);
	return PICK(windows) + below(32) * PAGE;
}

static uint64_t any_features(void)
{
	const uint64_t modern = 1ULL << VIRTIO_F_VERSION_1 |
				1ULL << VIRTIO_F_ACCESS_PLATFORM;

	switch (below(8)) {
	case 0:
		return PICK(odd_numbers);
	case 1:
		return rnd();
	case 2:
		return modern | 1ULL << below(64);
	case 3:
		return modern | (rnd() & 0xffffffff);
	default:
		return modern;
	}
}

static uint64_t any_backend(void)
{
	const uint64_t asid = 1ULL << VHOST_BACKEND_F_IOTLB_ASID;

	switch (below(8)) {
	case 0:
		return 1ULL << below(64);
	case 1:
		return rnd() & 0x1ff;
	case 2:
		return rnd() & 0x17e;
	case 3:
		return PICK(odd_numbers);
	case 4:
		return 0x1e;	/* what QEMU acks */
	case 5:
		return asid | 1ULL << below(10);
	default:
		return 0x17e;
	}
}

static uint8_t any_status(void)
{
	static const uint8_t walk[] = {
		VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
		VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK,
	};
	unsigned int i;

	switch (below(12)) {
	case 0: case 1:
		return 0;
	case 2:
		return rnd();
	case 3:
		return status & ~(1 << below(8));
	case 4:
		return status | 1 << below(8);
	default:
		for (i = 0; i < ARRAY_SIZE(walk); i++)
			if (!(status & walk[i]))
				return status | walk[i];
		return status;
	}
}

static size_t fill(const struct call *c, uint8_t *p)
{
	struct vhost_vring_state s = { .index = any_index() };
	static const uint32_t nums[] = { 0, 3, 255, 257, 512, 65536, 65537, -1 };
	uint32_t w[2];
	uint64_t q;
	int fd;

	switch (c->kind) {
	case NOTHING:
		return 0;
	case U8:
		p[0] = c->cmd == VHOST_VDPA_SET_STATUS ? any_status() : below(4);
		return 1;
	case U16: case U32: case RANGE:
		memset(p, 0x5a, sizes[c->kind]);
		return sizes[c->kind];
	case U64:
		q = c->cmd == VHOST_SET_FEATURES ? any_features() :
		    c->cmd == VHOST_SET_BACKEND_FEATURES ? any_backend() :
		    PICK(odd_numbers);
		memcpy(p, &q, 8);
		return 8;
	case STATE:
		switch (c->cmd) {
		case VHOST_SET_VRING_NUM:
			s.num = one_in(4) ? PICK(nums) : 1u << below(9);
			break;
		case VHOST_SET_VRING_BASE:
			s.num = one_in(6) ? PICK(odd_numbers) : below(0x10000);
			break;
		case VHOST_VDPA_SET_VRING_ENABLE:
			s.num = one_in(8) ? PICK(odd_numbers) : below(2);
			break;
		case VHOST_VDPA_SET_GROUP_ASID:
			s.num = one_in(8) ? PICK(odd_numbers) : below(3);
			break;
		default:
			s.num = PICK(odd_numbers);
		}
		memcpy(p, &s, 8);
		return 8;
	case FILEFD:
		fd = any_fd();
		memcpy(p, &s.index, 4);
		memcpy(p + 4, &fd, 4);
		return 8;
	case FD:
		fd = any_fd();
		memcpy(p, &fd, 4);
		return 4;
	case ADDR: {
		struct vhost_vring_addr a = {
			.index = s.index,
			.flags = one_in(10) ? PICK(odd_numbers) : below(2),
			.desc_user_addr = any_iova(),
			.avail_user_addr = any_iova(),
			.used_user_addr = any_iova(),
			.log_guest_addr = one_in(4) ? rnd() : 0,
		};
		if (one_in(10))
			a.avail_user_addr += below(4);
		if (one_in(10))
			a.used_user_addr += below(5);
		memcpy(p, &a, sizeof(a));
		return sizeof(a);
	}
	case CONFIG:
		w[0] = one_in(6) ? PICK(odd_numbers) : below(config_size + 2);
		w[1] = one_in(6) ? PICK(odd_numbers) : below(config_size + 2);
		if (one_in(2) && w[0] <= config_size)
			w[1] = below(config_size - w[0] + 1);
		memcpy(p, w, 8);
		for (q = 8; q < 8 + config_size + 2; q++)
			p[q] = c->cmd == VHOST_VDPA_SET_CONFIG ? rnd() : 0x5a;
		return q;
	case MEMORY:
		w[0] = one_in(6) ? PICK(odd_numbers) : below(3);
		w[1] = one_in(4);
		memcpy(p, w, 8);
		for (q = 8; q < 8 + 2 * 32; q += 8) {
			uint64_t v = one_in(3) ? PICK(odd_numbers) :
				     (uint64_t)below(16) * PAGE;
			if (q % 32 == 24 && one_in(2))
				v = ARENA + below(100) * PAGE;
			if (q % 32 == 8 && !one_in(4))
				v = (q / 32) * 64 * PAGE;
			memcpy(p + q, &v, 8);
		}
		return q;
	}
	return 0;
}

/* Places a payload; the address to pass, and what the kernel can reach of it. */
static void *place(const uint8_t *p, size_t len, const char **name, size_t *there)
{
	static const struct { const char *name; unsigned long addr; } odd[] = {
		{ "null", 0 }, { "one", 1 }, { "hole", ARGS - PAGE },
		{ "kernel", 0xffff888000000000 }, { "bent", 0x8000000000000000 },
		{ "top", 0xfffffffffffffff8 },
	};
	static char names[72][8];
	unsigned int k = below(60);
	char *guard = args + 2 * PAGE;
	char *at;

	*there = len;
	if (k < 46 || (len == 0 && k < 50)) {
		at = args + 64;
		*name = "ok";
	} else if (k < 50) {
		at = guard - len;
		*name = "end";
	} else if (k < 54 && len > 0 && len < 72) {
		/* Torn: the last bytes are not there. */
		*there = below(len);
		at = guard - *there;
		snprintf(names[*there], 8, "torn%zu", *there);
		*name = names[*there];
	} else if (k < 56) {
		/* Its bytes are zeroes, and the kernel cannot write. */
		*there = 0;
		*name = "readonly";
		return args + 3 * PAGE;
	} else {
		k = below(ARRAY_SIZE(odd));
		*there = 0;
		*name = odd[k].name;
		return (void *)odd[k].addr;
	}
	memcpy(at, p, *there);
	return at;
}

static sigjmp_buf compat_jump;

static void no_compat(int sig)
{
	siglongjmp(compat_jump, sig);
}

/* The system call of a 32-bit process. */
static long compat_call(long nr, long a, long b, long c)
{
	long r;

	asm volatile("int $0x80" : "=a" (r) :
		     "a" (nr), "b" (a), "c" (b), "d" (c) :
		     "memory", "r8", "r9", "r10", "r11");
	return (int)r;
}

static long call_ioctl(unsigned int cmd, void *arg, bool compat)
{
	if (compat)
		return compat_call(54, vfd, cmd, (uint32_t)(uintptr_t)arg);
	return result(ioctl(vfd, cmd, arg));
}

static bool running(void)
{
	return (status & VIRTIO_CONFIG_S_DRIVER_OK) && !suspended;
}

static void sync_message(int type, uint32_t asid, uint64_t iova, uint64_t size,
			 bool v1);
static void reopen_op(int flags);

static void model_reset(void)
{
	status = 0;
	suspended = false;
	maybe_ready = false;
}

/* What the call changed, for the generator. */
static void after_ioctl(unsigned int cmd, const uint8_t *p, long ret)
{
	uint32_t w[2] = {};

	if (ret)
		return;
	memcpy(w, p, 8);
	switch (cmd) {
	case VHOST_SET_OWNER:
		owner = true;
		break;
	case VHOST_SET_BACKEND_FEATURES:
		memcpy(&acked, p, 8);
		break;
	case VHOST_VDPA_SET_STATUS:
		status = p[0];
		if (status)
			break;
		model_reset();
		if (!in_batch)
			break;
		/* C's batch is still open, ours is not. */
		syncing = true;
		if (batch_asid && !(acked & 1ULL << VHOST_BACKEND_F_IOTLB_ASID))
			reopen_op(O_RDWR);
		else
			sync_message(VHOST_IOTLB_BATCH_END, batch_asid, 0, 0,
				     false);
		syncing = false;
		in_batch = held = false;
		break;
	case VHOST_VDPA_SUSPEND:
		if (status & VIRTIO_CONFIG_S_DRIVER_OK)
			suspended = true;
		break;
	case VHOST_VDPA_RESUME:
		if (status & VIRTIO_CONFIG_S_DRIVER_OK)
			suspended = false;
		break;
	case VHOST_VDPA_SET_VRING_ENABLE:
		if (w[1])
			maybe_ready = true;
		break;
	case VHOST_SET_VRING_NUM:
		if (!running() && w[0] < 3)
			num_taint[w[0]] = false;
		break;
	}
}

static void ioctl_op(void)
{
	static unsigned int total;
	uint8_t p[256] = {}, seen[256] = {}, sent[16] = {};
	const struct call *c = calls;
	const char *where;
	size_t len, there, n;
	bool compat = have_compat && one_in(6);
	unsigned int k;
	void *arg;
	long ret;

	if (!total) {
		unsigned int t = 0;

		for (k = 0; k < ARRAY_SIZE(calls); k++)
			t += calls[k].weight;
		total = t;
	}
	for (k = below(total); k >= c->weight; c++)
		k -= c->weight;
	len = fill(c, p);
	memcpy(sent, p, len < 16 ? len : 16);
	arg = place(p, len, &where, &there);
	if (!strcmp(where, "readonly"))
		memset(sent, 0, 16);

	if (c->cmd == VHOST_SET_VRING_NUM && running()) {
		uint32_t w[2];

		memcpy(w, sent, 8);
		if ((there == len || !strcmp(where, "readonly")) && owner &&
		    w[0] < 3) {
			tag("num-running");
			num_taint[w[0]] = true;
		}
	}
	if (c->cmd == VHOST_VDPA_GET_VRING_SIZE) {
		uint32_t w;

		memcpy(&w, sent, 4);
		if (w < 3 && num_taint[w])
			tag("num-taint");
	}
	ret = call_ioctl(c->cmd, arg, compat);
	n = there < sizeof(seen) ? there : sizeof(seen);
	if (n && strcmp(where, "null"))
		memcpy(seen, arg, n);
	/* What a SET reads is in the seed; what a GET wrote is logged whole. */
	report(ret, seen, n < 72 ? n : 72, "%s%s(%s)", compat ? "c:" : "",
	       c->name, where);
	/* Without an argument, tears do not count. */
	after_ioctl(c->cmd, sent, ret);
}

static void unknown_op(void)
{
	static const unsigned char types[] = { 0xaf, 0xaf, 0xaf, 0xae, 0x12 };
	static const unsigned char lens[] = { 0, 1, 2, 4, 8, 16, 40, 255 };
	uint8_t p[64] = {};
	const char *where;
	unsigned int cmd, k;
	uint32_t idx;
	size_t there;
	void *arg;

	cmd = _IOC(below(4), PICK(types), below(0x90), PICK(lens));
	for (k = 0; k < ARRAY_SIZE(calls); k++)
		if (calls[k].cmd == cmd)
			cmd ^= 1u << 28;
	idx = any_index();
	memcpy(p, &idx, 4);
	arg = place(p, sizeof(p), &where, &there);
	k = have_compat && one_in(6);
	report(call_ioctl(cmd, arg, k), NULL, 0, "%sioctl(%x,%s)",
	       k ? "c:" : "", cmd, where);
}

/* ---- messages ---- */

struct message {
	uint32_t type, asid;
	struct vhost_iotlb_msg iotlb;
	uint8_t rest[32];
};

/* What is at pages of the arena, as far as the parent of virtual addresses asks. */
static bool page_mapped(unsigned int page)
{
	if (page >= HUGE && page < HUGE + 512)
		return have_huge;
	if (page >= SECRET && page < SECRET + 4)
		return have_secret;
	return page < END_SMALL && !(page >= HOLE && page < HOLE + 4);
}

static void tag_va(uint64_t uaddr, uint64_t size, uint8_t perm)
{
	uint64_t first = uaddr / PAGE - ARENA / PAGE, n, k;
	bool bad = false;

	if (uaddr < ARENA || size > ARENA_PAGES * PAGE ||
	    uaddr + size > ARENA + ARENA_PAGES * PAGE) {
		tag("hole");
		return;
	}
	n = (uaddr + size - 1) / PAGE - uaddr / PAGE + 1;
	for (k = first; k < first + n; k++) {
		if (!page_mapped(k)) {
			tag("hole");
			return;
		}
		if (k >= READ_ONLY && k < READ_ONLY + 4 && (perm & VHOST_ACCESS_WO))
			bad = true;
		if (k >= WRITE_ONLY && k < WRITE_ONLY + 4 && (perm & VHOST_ACCESS_RO))
			bad = true;
	}
	if (bad)
		tag("va-perm");
}

/* Whether a range reaches memory that may be written but not read. */
static bool write_only(uint64_t uaddr, uint64_t size)
{
	uint64_t first = ARENA + WRITE_ONLY * PAGE, end = first + 4 * PAGE;

	return uaddr < end && (uaddr >= first || first - uaddr < size);
}

static const char *type_name(int type)
{
	static __thread char other[16];

	switch (type) {
	case VHOST_IOTLB_UPDATE:
		return "UPDATE";
	case VHOST_IOTLB_INVALIDATE:
		return "INVALIDATE";
	case VHOST_IOTLB_BATCH_BEGIN:
		return "BEGIN";
	case VHOST_IOTLB_BATCH_END:
		return "END";
	}
	snprintf(other, sizeof(other), "type%d", type);
	return other;
}

static void send_message(struct message *m, size_t len, unsigned int how,
			 bool good)
{
	bool v2 = m->type == VHOST_IOTLB_MSG_V2;
	uint64_t iova = m->iotlb.iova, size = m->iotlb.size;
	int type = m->iotlb.type;
	const char *where = "ok";
	bool differs = false, wrapped = false;
	uint32_t asid = 0;
	struct iovec iov[2];
	long ret;
	void *at;

	if (v2 && (acked & 1ULL << VHOST_BACKEND_F_IOTLB_ASID))
		asid = m->asid;
	if (good && type == VHOST_IOTLB_UPDATE && size) {
		if (!use_va && ((iova ^ m->iotlb.uaddr) & (PAGE - 1)))
			tag("offset");
		if (m->iotlb.perm < 1 || m->iotlb.perm > 3)
			tag("perm");
		if (!use_va && !(m->iotlb.perm & VHOST_ACCESS_WO) &&
		    write_only(m->iotlb.uaddr & ~(PAGE - 1), size + 2 * PAGE))
			tag("unreadable");
		if (use_va)
			tag_va(m->iotlb.uaddr, size, m->iotlb.perm);
		differs = tags[0];
	}
	if (good && type == VHOST_IOTLB_INVALIDATE && (iova || size) &&
	    iova + size - 1 < iova) {
		tag("wrap");
		wrapped = true;
	}
	at = args + 64;
	if (how == 3) {
		where = "torn";
		at = args + 2 * PAGE - len / 2;
		memcpy(at, m, len / 2);
	} else if (how == 4) {
		where = "one";
		at = (void *)1;
	} else {
		/* What follows a message is not looked at. */
		memset(at, 0xff, len);
		memcpy(at, m, len < sizeof(*m) ? len : sizeof(*m));
	}
	if (how == 1) {
		where = "two";
		iov[0] = (struct iovec) { at, len / 3 };
		iov[1] = (struct iovec) { at + len / 3, len - len / 3 };
		ret = result(writev(vfd, iov, 2));
	} else if (how == 2) {
		where = "pwrite";
		ret = result(pwrite(vfd, at, len, 8));
	} else {
		ret = result(write(vfd, at, len));
	}
	report(ret, NULL, 0, "%s %u/%x %s %llx+%llx %llx %x len=%zu(%s)",
	       v2 ? "v2" : m->type == VHOST_IOTLB_MSG ? "v1" : "v?",
	       m->type, m->asid, type_name(type), (unsigned long long)iova,
	       (unsigned long long)size, (unsigned long long)m->iotlb.uaddr,
	       m->iotlb.perm, len, where);
	if (ret > 0 && type == VHOST_IOTLB_BATCH_BEGIN) {
		in_batch = true;
		batch_asid = asid;
	} else if (ret > 0 && type == VHOST_IOTLB_BATCH_END) {
		in_batch = held = false;
	} else if (ret > 0 && type == VHOST_IOTLB_INVALIDATE && in_batch) {
		/* Ours keeps the pins until the parent has the table. */
		held = !dma_map && !use_va;
	}
	if (syncing)
		return;
	/* A failed update at 0 makes C unmap [0, 0 - 1], which is everything. */
	if (use_va && type == VHOST_IOTLB_UPDATE && !iova && size && ret < 0)
		wrapped = true;
	if (!differs && !wrapped)
		return;
	syncing = true;
	/* A range that wraps is not the same to both when it is unmapped, either. */
	if (wrapped || use_va || iova + size - 1 < iova)
		sync_message(VHOST_IOTLB_INVALIDATE, m->asid, 0, 0, !v2);
	else
		sync_message(VHOST_IOTLB_INVALIDATE, m->asid, iova, size, !v2);
	syncing = false;
}

static void sync_message(int type, uint32_t asid, uint64_t iova, uint64_t size,
			 bool v1)
{
	struct message m = {
		.type = v1 ? VHOST_IOTLB_MSG : VHOST_IOTLB_MSG_V2,
		.asid = asid,
		.iotlb = { .iova = iova, .size = size, .type = type },
	};

	send_message(&m, 72, 0, true);
}

static uint64_t any_uaddr(void)
{
	static const unsigned char kinds[] = {
		SCATTERED, SCATTERED, SCATTERED, QUADS, QUADS, QUADS, ANON, ANON,
		ANON2, READ_ONLY, NO_ACCESS, HOLE, WRITE_ONLY, BEYOND_EOF, SECRET,
	};

	if (one_in(40))
		return PICK(odd_numbers) & ~(PAGE - 1);
	if (one_in(10))
		return ARENA + (HUGE + below(512)) * PAGE;
	if (one_in(4))
		return ARENA + below(END_SMALL) * PAGE;
	return ARENA + (PICK(kinds) + below(4)) * PAGE;
}

static void random_message(void)
{
	static const uint32_t odd_asids[] = { 2, 3, 16, 17, 0x7fffffff, -1 };
	struct message m = { .type = VHOST_IOTLB_MSG_V2 };
	size_t len = 72;
	unsigned int how = 0, k;
	bool good = true;

	if (one_in(6))
		m.type = VHOST_IOTLB_MSG;
	m.asid = one_in(30) ? PICK(odd_asids) : in_batch && !one_in(6) ?
		 batch_asid : one_in(4);
	k = below(24);
	if (k < 12)
		m.iotlb.type = VHOST_IOTLB_UPDATE;
	else if (k < 18)
		m.iotlb.type = VHOST_IOTLB_INVALIDATE;
	else if (k < 20)
		m.iotlb.type = VHOST_IOTLB_BATCH_BEGIN;
	else if (k < 23)
		m.iotlb.type = VHOST_IOTLB_BATCH_END;
	else
		m.iotlb.type = one_in(2) ? below(8) : rnd();
	m.iotlb.iova = any_iova();
	m.iotlb.uaddr = any_uaddr();
	m.iotlb.perm = one_in(20) ? rnd() : one_in(4) ? 1 + below(3) : 3;
	switch (below(24)) {
	case 0:
		m.iotlb.size = PICK(odd_numbers);
		break;
	case 1:
		m.iotlb.size = 0;
		break;
	case 2: case 3:
		m.iotlb.size = (1 + below(40)) * PAGE;
		break;
	case 4:
		m.iotlb.size = 1 + below(3 * PAGE);
		break;
	case 5:
		m.iotlb.size = (1 + below(600)) * PAGE;
		break;
	case 6: case 7: case 8: case 9:
		m.iotlb.size = PAGE;
		break;
	case 10:
		/* To the end of everything. */
		m.iotlb.size = -m.iotlb.iova;
		break;
	default:
		m.iotlb.size = (1 + below(8)) * PAGE;
	}
	if (one_in(12)) {
		/* The same offset into the pages. */
		k = below(PAGE);
		m.iotlb.iova += k;
		m.iotlb.uaddr += k;
	} else if (one_in(24)) {
		m.iotlb.iova += below(PAGE);
		m.iotlb.uaddr += below(PAGE);
	}
	if (m.iotlb.type == VHOST_IOTLB_INVALIDATE && one_in(12)) {
		m.iotlb.iova = 0;
		m.iotlb.size = one_in(2) ? 0 : -1;
	}
	if (m.iotlb.type == VHOST_IOTLB_BATCH_BEGIN ||
	    m.iotlb.type == VHOST_IOTLB_BATCH_END) {
		if (!one_in(4))
			m.iotlb.iova = m.iotlb.size = m.iotlb.uaddr = 0;
	}
	if (one_in(30)) {
		m.type = one_in(2) ? below(4) : rnd();
		good = m.type == VHOST_IOTLB_MSG || m.type == VHOST_IOTLB_MSG_V2;
	}
	if (one_in(20)) {
		/* 40 is the least that has all that is looked at. */
		len = one_in(3) ? 72 + below(1000) : below(73);
		good = good && len >= 40;
	}
	if (one_in(20))
		how = 1 + below(4);
	/* A tear in the padding does not matter, so stay away from it. */
	if (how >= 3) {
		if (len > 72)
			len = 72;
		good = false;
	}
	send_message(&m, len, how, good);
}

/* ---- the rest ---- */

static void memlock_op(void)
{
	static const unsigned long pages[] = { 0, 8, 24, 60, 600 };
	struct rlimit l = { .rlim_max = RLIM_INFINITY };
	unsigned int k = below(12);

	l.rlim_cur = k < ARRAY_SIZE(pages) ? pages[k] * PAGE : RLIM_INFINITY;
	report(result(setrlimit(RLIMIT_MEMLOCK, &l)), NULL, 0, "memlock %lx",
	       (unsigned long)l.rlim_cur);
}

static void reopen_op(int flags)
{
	uint64_t q;
	int fd;

	close(vfd);
	fd = open(device, flags | O_CLOEXEC);
	if (fd >= 0 && fd != vfd && !quiet) {
		/* The same number in each run: the log may show it. */
		dup3(fd, vfd, O_CLOEXEC);
		close(fd);
	} else if (fd >= 0) {
		vfd = fd;
	}
	report(fd < 0 ? -errno : 0, NULL, 0, "reopen %x", flags);
	model_reset();
	owner = in_batch = held = false;
	acked = 0;
	/* Without an owner little happens. */
	if (one_in(5))
		return;
	owner = !ioctl(vfd, VHOST_SET_OWNER);
	report(owner, NULL, 0, "own");
	if (one_in(4))
		return;
	q = one_in(3) ? 0x1e : 0x17e;
	if (!ioctl(vfd, VHOST_SET_BACKEND_FEATURES, &q))
		acked = q;
	report(acked, NULL, 0, "ack");
}

/* On our driver: each call on a file whose device is gone fails alike, and nothing is pinned. */
static void check_gone(void)
{
	struct message m = { .type = VHOST_IOTLB_MSG_V2, .iotlb = { .type = VHOST_IOTLB_UPDATE,
		.iova = PAGE, .size = PAGE, .uaddr = ARENA, .perm = 3 } };
	uint8_t zeroes[512] = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		if (ioctl(vfd, calls[i].cmd, zeroes) != -1 || errno != ENODEV) {
			fprintf(stderr, "fuzz: %s after the removal: %d\n", calls[i].name, errno);
			exit(2);
		}
	/* What the file was not opened for does not come to the driver. */
	if (write(vfd, &m, 72) != -1 || (errno != ENODEV && errno != EBADF))
		die("UPDATE after the removal");
	if (mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, vfd, 0) != MAP_FAILED ||
	    (errno != ENODEV && errno != EACCES))
		die("mmap after the removal");
	if (vm_pin())
		die("pages are pinned after the removal");
}

/* The device goes and comes back, or the daemon behind it dies and another adopts it. */
static void removal_op(void)
{
	unsigned int k = below(4);
	char what = k == 3 ? 'd' : kill_daemon && k < 2 ? 'k' : 'u';
	int old = vfd;

	if (quiet) {
		/* The other thread goes on with the file. */
		pthread_mutex_lock(&helper_lock);
		help(what);
		if (what != 'k')
			help(what == 'd' ? 'a' : 'b');
		pthread_mutex_unlock(&helper_lock);
		reopen_op(O_RDWR);
		return;
	}
	if (ours) {
		help(what);
		if (what != 'k')
			check_gone();
		close(vfd);
	} else {
		close(vfd);
		help(what);
	}
	if (what != 'k')
		help(what == 'd' ? 'a' : 'b');
	vfd = open(device, O_RDWR | O_CLOEXEC);
	if (vfd < 0)
		die("the device did not come back");
	if (vfd != old) {
		dup3(vfd, old, O_CLOEXEC);
		close(vfd);
		vfd = old;
	}
	report(0, NULL, 0, "gone %c", what);
	reopen_op(O_RDWR);
}

static void mmap_op(void)
{
	static const int prots[] = {
		PROT_WRITE, PROT_WRITE, PROT_READ, PROT_READ | PROT_WRITE,
		PROT_NONE, PROT_EXEC | PROT_WRITE,
	};
	size_t len = one_in(4) ? below(3) * PAGE : PAGE;
	int prot = PICK(prots), flags = one_in(5) ? MAP_PRIVATE : MAP_SHARED;
	off_t off = one_in(4) ? (off_t)(PICK(odd_numbers) & 0xfffffffff) * PAGE :
		    (off_t)below(4) * PAGE;
	void *p = mmap(NULL, len, prot, flags, vfd, off);

	report(p == MAP_FAILED ? -errno : 0, NULL, 0, "mmap %zx %x %x %lx", len,
	       prot, flags, (unsigned long)off);
	if (p != MAP_FAILED)
		munmap(p, len);
}

static void vfs_op(void)
{
	struct pollfd p = { .fd = vfd, .events = POLLIN | POLLOUT };
	long ret;
	int fd;

	switch (below(8)) {
	case 0:
		ret = result(read(vfd, args + 64, 128));
		report(ret, NULL, 0, "read");
		break;
	case 1:
		ret = result(poll(&p, 1, 0));
		report(ret, NULL, 0, "poll %x", p.revents);
		break;
	case 2:
		ret = result(lseek(vfd, below(100), below(3)));
		report(ret, NULL, 0, "lseek");
		break;
	case 3:
		ret = result(ftruncate(vfd, 0));
		report(ret, NULL, 0, "ftruncate");
		break;
	case 4:
		ret = result(fsync(vfd));
		report(ret, NULL, 0, "fsync");
		break;
	case 5:
		ret = result(fcntl(vfd, F_SETFL, one_in(2) ? O_NONBLOCK : O_ASYNC));
		report(ret, NULL, 0, "setfl");
		break;
	case 6:
		ret = result(pread(vfd, args + 64, 128, 8));
		report(ret, NULL, 0, "pread");
		break;
	default:
		fd = open(device, O_RDWR | O_CLOEXEC);
		report(fd < 0 ? -errno : 0, NULL, 0, "second open");
		if (fd >= 0)
			close(fd);
	}
}

/* Another process with the file: never the owner. */
static void child_op(void)
{
	unsigned int what = below(6);
	pid_t pid = fork();
	long ret;
	int st;

	if (pid < 0)
		die("fork");
	if (!pid) {
		struct message m = { .type = VHOST_IOTLB_MSG_V2,
			.iotlb = { .size = PAGE, .type = VHOST_IOTLB_UPDATE,
				   .perm = 3, .uaddr = ARGS } };
		struct vhost_vring_state s = { .num = 4 };
		uint64_t q = 0x17e;

		switch (what) {
		case 0:
			ret = result(write(vfd, &m, 72));
			break;
		case 1:
			ret = result(ioctl(vfd, VHOST_SET_VRING_NUM, &s));
			break;
		case 2:
			ret = result(ioctl(vfd, VHOST_GET_VRING_BASE, &s));
			break;
		case 3:
			ret = result(ioctl(vfd, VHOST_VDPA_GET_STATUS, &q));
			break;
		case 4:
			m.iotlb.type = VHOST_IOTLB_INVALIDATE;
			ret = result(write(vfd, &m, 72));
			break;
		default:
			ret = result(ioctl(vfd, VHOST_VDPA_SET_VRING_ENABLE, &s));
		}
		_exit(ret < 0 ? -ret : 200);
	}
	if (waitpid(pid, &st, 0) != pid)
		die("waitpid");
	ret = WEXITSTATUS(st) == 200 ? 0 : -WEXITSTATUS(st);
	/* Before there is an owner, the child is none either. */
	report(ret, NULL, 0, "child %u", what);
}

static void kick_op(void)
{
	uint64_t one = 1;
	int fd = PICK(events);

	if (maybe_ready || (status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	/* With two threads the other one may have read it. */
	if ((write(fd, &one, 8) != 8 || read(fd, &one, 8) != 8) && !quiet)
		die("eventfd");
	report(0, NULL, 0, "kick");
}

/* What can be read at any time, in one line. */
static void sample(void)
{
	struct vhost_vring_state s;
	struct vhost_vdpa_iova_range range = {};
	uint8_t st = 0xee, cfg[8 + 64] = {};
	uint64_t f = 0, b = 0;
	uint16_t num = 0;
	uint32_t w[2] = { 0, config_size };
	unsigned int i;
	long r, pin;

	if (quiet)
		return;
	pin = vm_pin();
	printf("s pin=%ld%s", pin, held ? "#held" : "");
	r = result(ioctl(vfd, VHOST_VDPA_GET_STATUS, &st));
	printf(" status=%ld/%x", r, st);
	for (i = 0; i < 3; i++) {
		s = (struct vhost_vring_state) { .index = i };
		r = result(ioctl(vfd, VHOST_GET_VRING_BASE, &s));
		printf(" base%u=%ld/%x", i, r, s.num);
		s = (struct vhost_vring_state) { .index = i };
		r = result(ioctl(vfd, VHOST_VDPA_GET_VRING_SIZE, &s));
		printf(" size%u=%ld/%x%s", i, r, s.num,
		       num_taint[i] ? "#num-taint" : "");
		s = (struct vhost_vring_state) { .index = i };
		r = result(ioctl(vfd, VHOST_VDPA_GET_VRING_GROUP, &s));
		printf(" group%u=%ld/%x", i, r, s.num);
	}
	r = result(ioctl(vfd, VHOST_GET_FEATURES, &f));
	printf(" features=%ld/%llx", r, (unsigned long long)f);
	r = result(ioctl(vfd, VHOST_GET_BACKEND_FEATURES, &b));
	printf(" backend=%ld/%llx", r, (unsigned long long)b);
	r = result(ioctl(vfd, VHOST_VDPA_GET_VRING_NUM, &num));
	printf(" num=%ld/%x", r, num);
	r = result(ioctl(vfd, VHOST_VDPA_GET_IOVA_RANGE, &range));
	printf(" range=%ld/%llx-%llx", r, (unsigned long long)range.first,
	       (unsigned long long)range.last);
	memcpy(cfg, w, 8);
	r = result(ioctl(vfd, VHOST_VDPA_GET_CONFIG, cfg));
	printf(" config=%ld/", r);
	for (i = 0; i < config_size; i++)
		printf("%02x", cfg[8 + i]);
	putchar('\n');
}

static void one_op(void)
{
	static const int flags[] = {
		O_RDWR, O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY,
		O_RDWR | O_NONBLOCK,
	};
	unsigned int k;

	/* Without -r a seed is what it was. */
	if (removed && one_in(250)) {
		removal_op();
		return;
	}
	k = below(1000);
	if (k < 470)
		random_message();
	else if (k < 920)
		ioctl_op();
	else if (k < 940)
		unknown_op();
	else if (k < 952)
		memlock_op();
	else if (k < 960)
		reopen_op(PICK(flags));
	else if (k < 975)
		mmap_op();
	else if (k < 985)
		vfs_op();
	else if (k < 988)
		quiet ? vfs_op() : child_op();
	else
		kick_op();
}

/* Both drivers start alike, whatever the seed before left in the parent. */
static void prologue(void)
{
	struct rlimit l = { RLIM_INFINITY, RLIM_INFINITY };
	uint8_t cfg[8 + 64] = {};
	uint32_t w[2] = { 0, config_size };
	uint16_t max;
	uint64_t q;
	unsigned int i;
	uint8_t st;

	setrlimit(RLIMIT_MEMLOCK, &l);
	memcpy(cfg, w, 8);
	memset(cfg + 8, 0x11, config_size);
	if (ioctl(vfd, VHOST_VDPA_SET_CONFIG, cfg))
		die("SET_CONFIG");
	if (one_in(12))
		return;
	if (ioctl(vfd, VHOST_SET_OWNER))
		die("SET_OWNER");
	owner = true;
	if (ioctl(vfd, VHOST_VDPA_GET_VRING_NUM, &max))
		die("GET_VRING_NUM");
	for (i = 0; i < 3; i++) {
		struct vhost_vring_state s = { .index = i, .num = max };

		if (ioctl(vfd, VHOST_SET_VRING_NUM, &s))
			die("SET_VRING_NUM");
		num_taint[i] = false;
	}
	if (!one_in(4)) {
		q = one_in(3) ? 0x1e : 0x17e;
		if (ioctl(vfd, VHOST_SET_BACKEND_FEATURES, &q))
			die("SET_BACKEND_FEATURES");
		acked = q;
	}
	if (one_in(3)) {
		for (i = 0; i < 3; i++) {
			st = (uint8_t[]) { 1, 3, 11 }[i];
			if (i == 2) {
				q = 1ULL << 32 | 1ULL << 33;
				if (ioctl(vfd, VHOST_SET_FEATURES, &q))
					die("SET_FEATURES");
			}
			if (ioctl(vfd, VHOST_VDPA_SET_STATUS, &st))
				die("SET_STATUS");
			status = st;
		}
	}
}

/* The same once it stays so: processes of the helper pin pages for the moment of a read. */
static long pins_at_rest(void)
{
	long seen = system_pins(), now;
	int i, same = 0;

	for (i = 0; removed && i < 200 && same < 4; i++) {
		usleep(5000);
		now = system_pins();
		same = now == seen ? same + 1 : 0;
		seen = now;
	}
	return seen;
}

static void run_seed(uint64_t seed, unsigned long ops)
{
	long before = pins_at_rest();
	int fd = open(device, O_RDWR | O_CLOEXEC);
	unsigned int i;

	if (fd < 0)
		die(device);
	vfd = fd;
	rng = seed * 0x2545f4914f6cdd1dULL + 1;
	rnd();
	seqno = 0;
	owner = in_batch = held = false;
	acked = 0;
	model_reset();
	/* Nobody may have set the sizes since the seed before. */
	for (i = 0; i < 3; i++)
		num_taint[i] = true;
	if (!config_size && ioctl(vfd, VHOST_VDPA_GET_CONFIG_SIZE, &config_size))
		die("GET_CONFIG_SIZE");
	if (config_size > 64)
		config_size = 64;
	printf("S %llu %lu %s%s arena=%llx compat=%d\n", (unsigned long long)seed,
	       ops, dma_map ? "dma_map" : "set_map", use_va ? ",use_va" : "",
	       (unsigned long long)arena_shape(), have_compat);
	prologue();
	for (i = 0; seqno < ops; i++) {
		one_op();
		if (i % 16 == 15)
			sample();
	}
	sample();
	close(vfd);
	printf("E pin=%ld sys=%ld\n", vm_pin(), pins_at_rest() - before);
	fflush(stdout);
}

static time_t end;

static void *survive(void *p)
{
	rng = (uintptr_t)p;
	args = (char *)ARGS + ((uintptr_t)p & 1) * ARGS_STRIDE;
	while (time(NULL) < end)
		one_op();
	return (void *)seqno;
}

static void make_args(char *at)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	if (mmap(at, 2 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) != at ||
	    mmap(at + 2 * PAGE, PAGE, PROT_NONE, flags, -1, 0) != at + 2 * PAGE ||
	    mmap(at + 3 * PAGE, PAGE, PROT_READ, flags, -1, 0) != at + 3 * PAGE)
		die("the arguments' place is taken");
}

int main(int argc, char **argv)
{
	struct { uint32_t version; int pid; } head = { 0x20080522, 0 };
	struct { uint32_t effective, permitted, inheritable; } none[2] = {};
	struct rlimit l = { RLIM_INFINITY, RLIM_INFINITY };
	static unsigned long seconds;
	unsigned long i;
	uint64_t first;
	int c;

	/* With a random layout, the heap lies where the arena is to be once in some 200 runs. */
	c = personality(0xffffffff);
	if (!(c & ADDR_NO_RANDOMIZE) && personality(c | ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	while ((c = getopt(argc, argv, "dvm:t:r:")) != -1) {
		switch (c) {
		case 'd':
			dma_map = true;
			break;
		case 'v':
			use_va = true;
			break;
		case 'm':
			memory = optarg;
			break;
		case 't':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			removed = optarg;
			break;
		default:
			return 2;
		}
	}
	if (argc - optind != 4) {
		fprintf(stderr, "usage: fuzz [-d] [-v] [-m FILE] [-t SECONDS] [-r NAME] DEVICE FIRST-SEED SEEDS OPERATIONS\n");
		return 2;
	}
	remake = getenv("FUZZ_ADD");
	kill_daemon = getenv("FUZZ_KILL");
	ours = !access("/sys/module/rust_vhost_vdpa", F_OK);
	if (removed && !remake) {
		fprintf(stderr, "fuzz: -r without FUZZ_ADD\n");
		return 2;
	}
	if (removed)
		start_helper();
	device = argv[optind];
	first = strtoull(argv[optind + 1], NULL, 0);

	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0 || setrlimit(RLIMIT_MEMLOCK, &l))
		die("must be root");
	make_arena();
	make_args((char *)ARGS);
	make_args((char *)ARGS + ARGS_STRIDE);
	args = (char *)ARGS;
	for (i = 0; i < 4; i++)
		events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe");
	signal(SIGIO, SIG_IGN);
	signal(SIGSEGV, no_compat);
	if (!sigsetjmp(compat_jump, 1))
		have_compat = compat_call(20, 0, 0, 0) == getpid();
	signal(SIGSEGV, SIG_DFL);
	/* CAP_IPC_LOCK lifts the limit on our driver only. */
	if (syscall(SYS_capset, &head, none))
		die("capset");

	if (seconds) {
		pthread_t t[2];
		void *n[2];

		quiet = true;
		end = time(NULL) + seconds;
		vfd = open(device, O_RDWR | O_CLOEXEC);
		if (vfd < 0)
			die(device);
		config_size = 12;
		for (i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, survive,
				       (void *)(uintptr_t)(first * 2 + i));
		for (i = 0; i < 2; i++)
			pthread_join(t[i], &n[i]);
		close(vfd);
		printf("survived %lu operations, %ld pages pinned\n",
		       (unsigned long)n[0] + (unsigned long)n[1], vm_pin());
		return 0;
	}
	for (i = 0; i < strtoul(argv[optind + 2], NULL, 0); i++)
		run_seed(first + i, strtoul(argv[optind + 3], NULL, 0));
	return 0;
}
