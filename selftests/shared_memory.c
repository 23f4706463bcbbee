// SPDX-License-Identifier: GPL-2.0
/*
 * Maps of shared memory: on huge pages of hugetlbfs and of shmem, and on small ones. This driver
 * pins folios on huge pages by their file, where C walks addresses; what is pinned, charged, dirtied
 * and refused is the same.
 *
 * Each test has the memory mapped twice: all of "all" was touched, nothing of "fresh". A page that was
 * pinned by its address is then in the page table of "fresh", one that was pinned by file is not.
 *
 * On vdpa_test_parent, which says what the device could reach.
 */
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>

#include "vdpa_test.h"
#include "test_parent.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE	0x0010
#endif

#define NAME		"selftest_m"
#define HUGE		HUGE_PAGE
#define LEN		(4 * HUGE)
#define PAGES		(LEN / PAGE)
#define SHMEM_ENABLED	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define KPF_DIRTY	4

enum kind { SMALL, HUGETLB, THP };

FIXTURE(shared_memory) {
	char node[NODE_LEN];
	int fd;			/* the device */
	int memfd;
	int pagemap;
	uint64_t iova;
	char *all, *fresh;
	bool by_file;		/* this driver, on huge pages */
	bool ready;
	long system;
	long huge;		/* what there was of huge pages, or -1 */
	char thp[32];		/* what was said of those of shmem */
};

FIXTURE_VARIANT(shared_memory) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(shared_memory, small_pages) { .kind = SMALL };
FIXTURE_VARIANT_ADD(shared_memory, hugetlb) { .kind = HUGETLB };
FIXTURE_VARIANT_ADD(shared_memory, thp) { .kind = THP };

/* The entries of /proc/self/pagemap for len bytes at p, until the next call; NULL without. */
static const uint64_t *page_entries(int pagemap, const void *p, size_t len)
{
	static uint64_t entries[PAGES];
	size_t size = len / PAGE * sizeof(*entries);

	if (size > sizeof(entries) ||
	    pread(pagemap, entries, size, (uintptr_t)p / PAGE * sizeof(*entries)) != (ssize_t)size)
		return NULL;
	return entries;
}

/* How many of the pages of [p, p + len) are in the page table, or -1. */
static long in_page_table(int pagemap, const char *p, size_t len)
{
	const uint64_t *entries = page_entries(pagemap, p, len);
	long n = 0;

	for (size_t i = 0; entries && i < len / PAGE; i++)
		n += entries[i] >> 63;
	return entries ? n : -1;
}

static void *map_shared(int memfd, size_t at, size_t len)
{
	void *p = aligned_area(len, PROT_NONE);

	if (!p)
		return NULL;
	p = mmap(p, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, at);
	return p == MAP_FAILED ? NULL : p;
}

/* Memory of a kind, or -1. */
static int make_memory(enum kind kind, size_t len)
{
	int fd = memfd_create("vdpa", MFD_ALLOW_SEALING | (kind == HUGETLB ? MFD_HUGETLB : 0));

	if (fd >= 0 && ftruncate(fd, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * What the device can reach is len bytes of memory at iova, whose pages are mapped at p. Returns the first
 * offset that it cannot reach or where it finds other memory, or len.
 */
static size_t reached(int pagemap, uint64_t iova, const char *p, size_t len)
{
	static char text[1 << 20];
	const uint64_t *entries = page_entries(pagemap, p, len);
	char *line = text;
	size_t at = 0;

	if (!entries || told_maps(NAME, text, sizeof(text)))
		return 0;
	for (; (line = strstr(line, "map ")); line++) {
		unsigned long long first, last, addr;
		unsigned int asid, perm;

		if (sscanf(line, "map %u %llx %llx %llx %u", &asid, &first, &last, &addr, &perm) != 5)
			return 0;
		if (first != iova + at)
			break;
		for (; at < len && iova + at <= last; at += PAGE)
			if (addr + (iova + at - first) != frame_in(entries[at / PAGE]) * PAGE)
				return at;
	}
	return at;
}

/* The word in brackets, of a file that lists what may be chosen. */
static void chosen(const char *path, char *word, size_t len)
{
	char text[256] = "", *from, *to;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	word[0] = 0;
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0 && (from = strchr(text, '[')) && (to = strchr(from, ']')))
		snprintf(word, len, "%.*s", (int)(to - from - 1), from + 1);
	close(fd);
}

/* Gives huge pages back, and what was chosen of those of shmem. */
static void restore(long huge, const char *thp)
{
	char number[24];

	if (thp[0])
		write_file(SHMEM_ENABLED, thp);
	if (huge >= 0) {
		snprintf(number, sizeof(number), "%ld", huge);
		write_file(NR_HUGEPAGES, number);
	}
}

/* Teardown is not for a test whose setup skips it. */
#define SKIP_SETUP(reason) do {						\
	restore(self->huge, self->thp);					\
	nl_del_if_there(NAME);						\
	SKIP(return, reason);						\
} while (0)

FIXTURE_SETUP(shared_memory)
{
	struct vdpa_caps caps;

	self->fd = -1;
	self->huge = -1;
	NEEDS_TEST_PARENT();
	if (variant->kind == SMALL && iotlb_limit() < (long)PAGES)
		SKIP(return, "a table has no room for so many scattered pages");
	if (variant->kind == HUGETLB && read_key("/proc/meminfo", "HugePages_Free:") < 4 * (long)(LEN / HUGE)) {
		self->huge = read_key("/proc/meminfo", "HugePages_Total:");
		write_file(NR_HUGEPAGES, "16");
	}
	if (variant->kind == THP) {
		chosen(SHMEM_ENABLED, self->thp, sizeof(self->thp));
		if (!self->thp[0] || write_file(SHMEM_ENABLED, "always"))
			SKIP_SETUP("no huge pages of shmem");
	}
	TEST_PARENT_SETUP(NAME, STYLE_SET_MAP);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->pagemap);
	ASSERT_OK(parent_add(NAME, self->node));
	self->ready = true;
	OPEN_NODE();
	ASSERT_OK(vdpa_get_caps(self->fd, &caps));
	self->iova = caps.iova;
	OWN();

	self->memfd = make_memory(variant->kind, LEN);
	self->all = self->memfd < 0 ? NULL : map_shared(self->memfd, 0, LEN);
	if (!self->all && variant->kind == HUGETLB)
		SKIP_SETUP("no huge pages");
	ASSERT_NE(NULL, self->all);
	for (size_t at = 0; at < LEN; at += PAGE)
		self->all[at] = at / PAGE + 1;
	for (size_t at = 0; at < LEN && variant->kind == THP; at += HUGE) {
		uint64_t first = page_frame(self->pagemap, self->all + at);

		if (first % 512 || page_frame(self->pagemap, self->all + at + HUGE - PAGE) != first + 511)
			SKIP_SETUP("shmem found no huge page");
	}
	self->fresh = map_shared(self->memfd, 0, LEN);
	ASSERT_NE(NULL, self->fresh);
	self->by_file = variant->kind != SMALL && !on_c_driver();
}

FIXTURE_TEARDOWN(shared_memory)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->ready) {
		nl_del_if_there(NAME);
		EXPECT_UNPINNED();
	}
	restore(self->huge, self->thp);
}

#define MAP(off, len)	iotlb_map(self->fd, self->iova + (off), len, self->fresh + (off))
#define UNMAP()		iotlb_unmap(self->fd, 0, 0)
/* n pages are pinned and charged. */
#define EXPECT_PINNED(n) do {							\
	EXPECT_EQ((long)(n), pinned_self());					\
	EXPECT_EQ(self->system + (long)(n), wait_pinned_system(self->system + (long)(n)));	\
} while (0)
/*
 * After an update that failed behind its first range, C keeps pins. Whatever it has lost is not this test's.
 */
#define C_MAY_LEAK() do {							\
	long now_ = wait_pinned_system(self->system);				\
										\
	if (on_c_driver() && now_ != self->system) {				\
		self->system = now_;						\
		C_DIFFERS("a failed update leaves pins");			\
		return;								\
	}									\
} while (0)
/* n pages of "fresh" were pinned by their address, and the rest by file. */
#define EXPECT_BY_ADDRESS(n) \
	EXPECT_EQ((long)(n), in_page_table(self->pagemap, self->fresh, LEN))

TEST_F(shared_memory, is_pinned_and_reached)
{
	long reserved = read_key("/proc/meminfo", "HugePages_Rsvd:");
	long free = read_key("/proc/meminfo", "HugePages_Free:");

	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	EXPECT_BY_ADDRESS(self->by_file ? 0 : PAGES);
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, self->all, LEN));
	/* It was there: neither drawn from the reserve nor from what is free. */
	EXPECT_EQ(reserved, read_key("/proc/meminfo", "HugePages_Rsvd:"));
	EXPECT_EQ(free, read_key("/proc/meminfo", "HugePages_Free:"));
	ASSERT_OK(UNMAP());
	EXPECT_PINNED(0);
}

/* Pieces that begin and end within huge pages. */
TEST_F(shared_memory, odd_offsets)
{
	static const struct { size_t at, len; } pieces[] = {
		{ 0, HUGE },
		{ PAGE, LEN - 2 * PAGE },
		{ HUGE - PAGE, HUGE + 2 * PAGE },
		{ HUGE / 2, 2 * HUGE },
		{ 3 * PAGE, 600 * PAGE },
		{ 7 * PAGE, 3 * PAGE },
		{ LEN - PAGE, PAGE },
	};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		size_t at = pieces[i].at, len = pieces[i].len;

		ASSERT_OK(MAP(at, len));
		EXPECT_PINNED(len / PAGE);
		EXPECT_EQ(len, reached(self->pagemap, self->iova + at, self->all + at, len));
		if (self->by_file && len >= HUGE) {
			EXPECT_EQ(0, in_page_table(self->pagemap, self->fresh + at, len));
		}
		/* Twice: pins add up. Of scattered pages, a table has no room for so many ranges. */
		if (variant->kind == SMALL && len > 512 * PAGE) {
			ASSERT_OK(UNMAP());
			continue;
		}
		ASSERT_OK(iotlb_map(self->fd, self->iova + LEN + at, len, self->fresh + at));
		EXPECT_PINNED(2 * len / PAGE);
		ASSERT_OK(iotlb_unmap(self->fd, self->iova + LEN + at, len));
		EXPECT_PINNED(len / PAGE);
		ASSERT_OK(UNMAP());
		EXPECT_PINNED(0);
	}
}

/* The device keeps its pages when the file gives them up, and they return when it does. */
TEST_F(shared_memory, outlives_the_file)
{
	long huge;

	ASSERT_OK(MAP(0, LEN));
	ASSERT_EQ(LEN, reached(self->pagemap, self->iova, self->all, LEN));
	huge = read_key("/proc/meminfo", "HugePages_Free:");
	ASSERT_EQ(0, ftruncate(self->memfd, 0));
	EXPECT_PINNED(PAGES);
	munmap(self->all, LEN);
	munmap(self->fresh, LEN);
	close(self->memfd);
	EXPECT_PINNED(PAGES);
	EXPECT_EQ(huge, read_key("/proc/meminfo", "HugePages_Free:"));
	ASSERT_OK(UNMAP());
	EXPECT_PINNED(0);
	if (variant->kind == HUGETLB) {
		EXPECT_EQ(huge + (long)(LEN / HUGE), read_key("/proc/meminfo", "HugePages_Free:"));
	}
}

/* What is not there is left to a fault, and so to the memory policy of the mapping. */
TEST_F(shared_memory, hole)
{
	ASSERT_EQ(0, fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE));
	ASSERT_EQ(0, in_page_table(self->pagemap, self->all + HUGE, HUGE));
	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	EXPECT_EQ(512, in_page_table(self->pagemap, self->fresh + HUGE, HUGE));
	/* What goes before the hole goes by file. */
	if (self->by_file) {
		EXPECT_EQ(0, in_page_table(self->pagemap, self->fresh, HUGE));
	}
	for (size_t at = HUGE; at < 2 * HUGE; at += PAGE)
		ASSERT_EQ(0, self->all[at]);
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, self->all, LEN));
	ASSERT_OK(UNMAP());
	EXPECT_PINNED(0);
}

/* Pages that a file has beyond its end do not make up for a hole. */
TEST_F(shared_memory, hole_and_pages_beyond_the_end)
{
	ASSERT_EQ(0, fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE));
	if (fallocate(self->memfd, FALLOC_FL_KEEP_SIZE, LEN, HUGE))
		SKIP(return, "no pages beyond the end");
	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	EXPECT_EQ(512, in_page_table(self->pagemap, self->fresh + HUGE, HUGE));
	ASSERT_OK(UNMAP());
}

/* What is wrong far behind the first folios is found, too. */
TEST_F(shared_memory, hole_after_many_folios)
{
	size_t n = 40, at = 35 * HUGE, len = n * HUGE;
	int memfd;
	char *p;

	if (variant->kind != HUGETLB)
		SKIP(return, "a matter of huge pages");
	if (self->huge < 0)
		self->huge = read_key("/proc/meminfo", "HugePages_Total:");
	write_file(NR_HUGEPAGES, "64");
	memfd = make_memory(HUGETLB, len);
	ASSERT_LE(0, memfd);
	p = map_shared(memfd, 0, len);
	if (!p)
		SKIP(return, "too few huge pages");
	for (size_t i = 0; i < len; i += HUGE)
		p[i] = 1;
	munmap(p, len);
	ASSERT_EQ(0, fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, HUGE));
	p = map_shared(memfd, 0, len);
	ASSERT_NE(NULL, p);
	ASSERT_OK(iotlb_map(self->fd, self->iova, len, p));
	EXPECT_PINNED(len / PAGE);
	EXPECT_EQ(512, in_page_table(self->pagemap, p + at, HUGE));
	if (self->by_file) {
		EXPECT_EQ(0, in_page_table(self->pagemap, p + at - HUGE, HUGE));
	}
	ASSERT_OK(UNMAP());
	EXPECT_PINNED(0);
	munmap(p, len);
	close(memfd);
}

/* Memory that was set aside and never written: the device must find zeroes, not what was there before. */
TEST_F(shared_memory, set_aside_and_never_touched)
{
	int memfd = make_memory(variant->kind, LEN);
	char *p, *q;

	ASSERT_LE(0, memfd);
	if (fallocate(memfd, 0, 0, LEN))
		SKIP(return, "fallocate: no memory");
	p = map_shared(memfd, 0, LEN);
	q = map_shared(memfd, 0, LEN);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_OK(iotlb_map(self->fd, self->iova, LEN, p));
	EXPECT_PINNED(PAGES);
	/* Small and huge pages of shmem are not up to date before they are touched. Those of hugetlbfs are. */
	if (variant->kind != HUGETLB) {
		EXPECT_EQ(PAGES, in_page_table(self->pagemap, p, LEN));
	}
	for (size_t at = 0; at < LEN; at += PAGE)
		ASSERT_EQ(0, q[at]);
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, q, LEN));
	ASSERT_OK(UNMAP());
	close(memfd);
}

TEST_F(shared_memory, beyond_the_end_of_the_file)
{
	ASSERT_EQ(0, ftruncate(self->memfd, LEN - HUGE));
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	EXPECT_ERRNO(EFAULT, MAP(LEN - HUGE, HUGE));
	C_MAY_LEAK();
	EXPECT_PINNED(0);
	ASSERT_OK(MAP(0, LEN - HUGE));
	EXPECT_PINNED(PAGES - 512);
	ASSERT_OK(UNMAP());
}

TEST_F(shared_memory, protection)
{
	ASSERT_EQ(0, mprotect(self->fresh, LEN, PROT_READ));
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	EXPECT_PINNED(0);
	ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, LEN, self->fresh,
			   VHOST_ACCESS_RO));
	EXPECT_PINNED(PAGES);
	EXPECT_BY_ADDRESS(self->by_file ? 0 : PAGES);
	ASSERT_OK(UNMAP());
	ASSERT_EQ(0, mprotect(self->fresh, LEN, PROT_NONE));
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, LEN, self->fresh,
				      VHOST_ACCESS_RO));
	/* Only a part of it. */
	ASSERT_EQ(0, mprotect(self->fresh, LEN, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(self->fresh + 2 * HUGE, HUGE, PROT_READ));
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	C_MAY_LEAK();
	EXPECT_PINNED(0);
}

TEST_F(shared_memory, protection_keys)
{
	int key = syscall(SYS_pkey_alloc, 0, 2 /* PKEY_DISABLE_WRITE */);

	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, syscall(SYS_pkey_mprotect, self->fresh, LEN, PROT_READ | PROT_WRITE, key));
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	EXPECT_PINNED(0);
	ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, LEN, self->fresh,
			   VHOST_ACCESS_RO));
	EXPECT_PINNED(PAGES);
	ASSERT_OK(UNMAP());
	syscall(SYS_pkey_free, key);
}

/* A mapping that was writable before stays so; new ones are not. */
TEST_F(shared_memory, sealed_against_future_writes)
{
	char *p;

	ASSERT_EQ(0, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	EXPECT_BY_ADDRESS(self->by_file ? 0 : PAGES);
	ASSERT_OK(UNMAP());
	p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, self->memfd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, LEN, p));
	EXPECT_PINNED(0);
}

/* While pages are pinned their file cannot be sealed against writes. */
TEST_F(shared_memory, pins_keep_the_file_writable)
{
	ASSERT_OK(MAP(0, LEN));
	EXPECT_EQ(-1, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, munmap(self->all, LEN));
	ASSERT_EQ(0, munmap(self->fresh, LEN));
	EXPECT_EQ(-1, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_OK(UNMAP());
	EXPECT_EQ(0, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE));
}

/* A shared mapping of a file that was opened to be read is not one that others write to. */
TEST_F(shared_memory, file_opened_to_be_read)
{
	char path[64], *p;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->memfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, LEN, p));
	ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, self->iova, LEN, p, VHOST_ACCESS_RO));
	EXPECT_PINNED(PAGES);
	EXPECT_EQ(PAGES, in_page_table(self->pagemap, p, LEN));
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, self->all, LEN));
	ASSERT_OK(UNMAP());
	EXPECT_PINNED(0);
}

/* Private memory of a file is not the file's once it was written. */
TEST_F(shared_memory, private_mapping)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->memfd, 0);

	ASSERT_NE(MAP_FAILED, p);
	if (variant->kind == HUGETLB) {
		ASSERT_LE((long)(LEN / HUGE), read_key("/proc/meminfo", "HugePages_Free:"));
	}
	for (size_t at = 0; at < LEN; at += PAGE)
		p[at] = 0x55;
	ASSERT_OK(iotlb_map(self->fd, self->iova, LEN, p));
	EXPECT_PINNED(PAGES);
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, p, LEN));
	EXPECT_NE(page_frame(self->pagemap, self->all), page_frame(self->pagemap, p));
	ASSERT_OK(UNMAP());
}

/* Several mappings in one message, not all of them of files, and in another order than the file has. */
TEST_F(shared_memory, several_mappings)
{
	char *p = aligned_area(5 * HUGE, PROT_NONE);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(p, mmap(p, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self->memfd,
			  2 * HUGE));
	ASSERT_EQ(p + HUGE, mmap(p + HUGE, HUGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0));
	ASSERT_EQ(p + 2 * HUGE, mmap(p + 2 * HUGE, 2 * HUGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_FIXED, self->memfd, 0));
	ASSERT_OK(iotlb_map(self->fd, self->iova, 4 * HUGE, p));
	EXPECT_PINNED(PAGES);
	/* All of it is there now or comes by a look. */
	for (size_t at = 0; at < 4 * HUGE; at += PAGE)
		((volatile char *)p)[at];
	EXPECT_EQ(4 * HUGE, reached(self->pagemap, self->iova, p, 4 * HUGE));
	ASSERT_OK(UNMAP());
	/* A hole between them. */
	ASSERT_EQ(0, munmap(p + HUGE, HUGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, 4 * HUGE, p));
	C_MAY_LEAK();
	EXPECT_PINNED(0);
}

/* Moved to an address that is not that of its offset in the file. */
TEST_F(shared_memory, moved)
{
	char *p;

	if (variant->kind == HUGETLB)
		SKIP(return, "mappings of huge pages are only moved as a whole");
	p = mremap(self->fresh + HUGE / 2, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (char *)map_shared(self->memfd, 0, LEN) + 3 * PAGE);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_OK(iotlb_map(self->fd, self->iova, HUGE, p));
	EXPECT_PINNED(512);
	EXPECT_EQ(HUGE, reached(self->pagemap, self->iova, self->all + HUGE / 2, HUGE));
	ASSERT_OK(UNMAP());
}

/* What a device writes to must not be dropped as clean. */
TEST_F(shared_memory, is_dirty)
{
	int memfd = make_memory(variant->kind, LEN), flags = open("/proc/kpageflags", O_RDONLY);
	uint64_t first = 0, last = 0;
	char *p;

	ASSERT_LE(0, memfd);
	if (flags < 0)
		SKIP(return, "no /proc/kpageflags");
	p = map_shared(memfd, 0, LEN);
	ASSERT_NE(NULL, p);
	/* A page that was only read is clean. */
	for (size_t at = 0; at < LEN; at += PAGE)
		((volatile char *)p)[at];
	ASSERT_EQ(8, pread(flags, &first, 8, page_frame(self->pagemap, p) * 8));
	if (first & (1ULL << KPF_DIRTY))
		SKIP(return, "such memory is never clean");
	ASSERT_OK(iotlb_map(self->fd, self->iova, LEN, p));
	ASSERT_OK(UNMAP());
	/* Huge pages have it in their first. */
	ASSERT_EQ(8, pread(flags, &first, 8, page_frame(self->pagemap, p) * 8));
	ASSERT_EQ(8, pread(flags, &last, 8, page_frame(self->pagemap, p + LEN - HUGE) * 8));
	EXPECT_NE(0, first & (1ULL << KPF_DIRTY));
	EXPECT_NE(0, last & (1ULL << KPF_DIRTY));
	close(flags);
	close(memfd);
}

/* A page with an error is not given to a device, and those before it are given back. */
TEST_F(shared_memory, poisoned)
{
	int status;
	pid_t pid;

	/* Who injects an error dies of it, if the page is in its page table. */
	signal(SIGBUS, SIG_IGN);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		_exit(madvise(self->all + 2 * HUGE, PAGE, MADV_HWPOISON) != 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		SKIP(return, "no memory errors can be injected");
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	C_MAY_LEAK();
	EXPECT_PINNED(0);
	ASSERT_OK(MAP(0, 2 * HUGE));
	EXPECT_PINNED(2 * 512);
	ASSERT_OK(UNMAP());
}

/* Guard regions are there to be met. */
TEST_F(shared_memory, guard_region)
{
	if (madvise(self->fresh + HUGE, PAGE, MADV_GUARD_INSTALL))
		SKIP(return, "no guard regions in such memory");
	EXPECT_ERRNO(EFAULT, MAP(0, LEN));
	C_MAY_LEAK();
	EXPECT_PINNED(0);
}

struct handler {
	int uffd;
	size_t page;
	_Atomic long faults;
};

/* Answers each missing page with zeroes, until there are none for a while. */
static void *fill(void *arg)
{
	struct handler *h = arg;
	struct pollfd pfd = { .fd = h->uffd, .events = POLLIN };
	static char zeroes[HUGE] __attribute__((aligned(4096)));

	while (poll(&pfd, 1, 3000) > 0) {
		struct uffd_msg msg;
		struct uffdio_copy copy = { .src = (uintptr_t)zeroes };

		if (read(h->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		copy.dst = msg.arg.pagefault.address & ~(h->page - 1);
		copy.len = h->page;
		h->faults++;
		ioctl(h->uffd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

/* A hole that a handler is to fill, as at the end of a migration, is filled by the handler. */
TEST_F(shared_memory, userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->fresh, LEN },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct handler h = { .page = variant->kind == HUGETLB ? HUGE : PAGE };
	pthread_t thread;

	h.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h.uffd < 0 || ioctl(h.uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");
	if (ioctl(h.uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no userfaultfd for such memory");
	ASSERT_EQ(0, fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE));
	ASSERT_EQ(0, pthread_create(&thread, NULL, fill, &h));
	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	pthread_join(thread, NULL);
	EXPECT_EQ(HUGE / h.page, h.faults);
	/* All of it went by address. */
	EXPECT_BY_ADDRESS(PAGES);
	for (size_t at = HUGE; at < 2 * HUGE; at += PAGE)
		ASSERT_EQ(0, self->all[at]);
	EXPECT_EQ(LEN, reached(self->pagemap, self->iova, self->all, LEN));
	ASSERT_OK(UNMAP());
	close(h.uffd);
}

struct limited {
	FIXTURE_DATA(shared_memory) *self;
	size_t limit, len;
	int ret;
};

/* Capabilities are a thread's. */
static void *map_limited(void *arg)
{
	struct limited *l = arg;

	l->ret = drop_capabilities() ?: limit_memlock(l->limit) ?:
		iotlb_map(l->self->fd, l->self->iova, l->len, l->self->fresh);
	return NULL;
}

/* The limit counts pages, however they are pinned. */
TEST_F(shared_memory, memlock_limit)
{
	/* A limit that was lowered stays so. */
	struct limited l[] = {
		{ self, PAGES, LEN },
		{ self, PAGES - 1, LEN },
		{ self, PAGES - 1, LEN - PAGE },
	};

	for (int i = 0; i < 3; i++) {
		pthread_t thread;

		ASSERT_EQ(0, pthread_create(&thread, NULL, map_limited, &l[i]));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(i == 1 ? -EFAULT : 0, l[i].ret);
		EXPECT_PINNED(i == 1 ? 0 : l[i].len / PAGE);
		ASSERT_OK(UNMAP());
	}
}

TEST_F(shared_memory, closing_gives_all_back)
{
	ASSERT_OK(MAP(0, LEN));
	EXPECT_PINNED(PAGES);
	CLOSE_NODE();
	EXPECT_PINNED(0);
}

TEST_HARNESS_MAIN
