// SPDX-License-Identifier: GPL-2.0
/*
 * What IOTLB messages do to the pages behind: pinned and charged while mapped,
 * and given back by every way that a map can end.
 *
 * Applies to parents that map by physical address; others are skipped.
 */
#include <sys/socket.h>

#include "vdpa_test.h"

#define PAGES	64

FIXTURE(pin) {
	int fd;
	struct vdpa_caps caps;
	uint64_t iova;
	char *mem;
	size_t len;
	long system;		/* pinned pages before the test */
};

FIXTURE_SETUP(pin)
{
	int pins;

	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
	self->iova = self->caps.iova;
	self->len = PAGES * PAGE;
	self->mem = private_pages(self->len);
	ASSERT_NE(NULL, self->mem);

	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	pins = parent_pins(self->fd, self->iova);
	ASSERT_LE(0, pins);
	if (!pins)
		SKIP(return, "the parent maps by user address and pins nothing");
	/* Some tests need a file of which this process is not the owner. */
	REOPEN();
	ASSERT_EQ(0, pinned_self());
	self->system = pinned_system();
}

FIXTURE_TEARDOWN(pin)
{
	if (self->fd >= 0)
		close(self->fd);
	EXPECT_UNPINNED();
}

TEST_F(pin, update_pins_and_invalidate_unpins)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_EQ(PAGES, pinned_self());
	EXPECT_EQ(self->system + PAGES, wait_pinned_system(self->system + PAGES));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_UNPINNED();
}

TEST_F(pin, each_map_pins_anew)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	ASSERT_OK(iotlb_map(self->fd, self->iova + PAGE, PAGE, self->mem));
	EXPECT_EQ(2, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, PAGE));
	EXPECT_EQ(1, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, part_of_a_page_pins_it_whole)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, 1, self->mem));
	EXPECT_EQ(1, pinned_self());
	ASSERT_OK(iotlb_map(self->fd, self->iova + PAGE, PAGE + 1, self->mem));
	EXPECT_EQ(3, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, 1));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + PAGE, PAGE + 1));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, same_offset_in_the_page)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova + 0x800, PAGE, self->mem + 0x800));
	EXPECT_EQ(2, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + 0x800, PAGE));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, large_map)
{
	size_t len = 1024 * PAGE;
	char *p = private_pages(len);

	ASSERT_NE(NULL, p);
	OWN();
	/* More than any one call that pins takes. */
	ASSERT_OK(iotlb_map(self->fd, self->iova, len, p));
	EXPECT_EQ(1024, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, len));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, huge_page)
{
	char *p = aligned_area(HUGE_PAGE, PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, p);
	if (madvise(p, HUGE_PAGE, MADV_HUGEPAGE))
		SKIP(return, "no transparent huge pages");
	memset(p, 1, HUGE_PAGE);
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, HUGE_PAGE, p));
	EXPECT_EQ(512, pinned_self());
	EXPECT_EQ(self->system + 512, wait_pinned_system(self->system + 512));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, HUGE_PAGE));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, partial_failure_unpins)
{
	OWN();
	/* The last page, one in the middle, the first. */
	ASSERT_EQ(0, munmap(self->mem + self->len - PAGE, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_EQ(0, pinned_self());
	ASSERT_EQ(0, munmap(self->mem + self->len / 2, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_EQ(0, pinned_self());
	ASSERT_EQ(0, munmap(self->mem, PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_UNPINNED();
	/* And with earlier maps, those stay. */
	ASSERT_OK(iotlb_map(self->fd, self->iova, 2 * PAGE, self->mem + PAGE));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova + 2 * PAGE, self->len,
				       self->mem + PAGE));
	EXPECT_EQ(2, pinned_self());
}

TEST_F(pin, overlap_pins_nothing)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova + 8 * PAGE, PAGE, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_EQ(1, pinned_self());
}

/* Filling a table message by message is quadratic: slow on a debug kernel. */
TEST_F_TIMEOUT(pin, full_table_unpins, 600)
{
	size_t n = 0, i;
	int r;

	OWN();
	do {
		r = iotlb_map(self->fd, self->iova + 2 * n * PAGE, PAGE, self->mem);
		n += !r;
	} while (!r && n < 4096);
	ASSERT_EQ(-EFAULT, r);
	EXPECT_EQ((long)n, pinned_self());
	for (i = 0; i < n; i++)
		ASSERT_OK(iotlb_unmap(self->fd, self->iova + 2 * i * PAGE, PAGE));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, partial_invalidate_unpins_the_entry)
{
	char *p = contiguous_pages(private_pages);

	if (!p)
		SKIP(return, "no two pages are neighbours in physical memory");
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, 2 * PAGE, p));
	EXPECT_EQ(2, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + PAGE, PAGE));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, batch)
{
	OWN();
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_EQ(PAGES, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	ASSERT_OK(iotlb_map(self->fd, self->iova, PAGE, self->mem));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(1, pinned_self());
}

TEST_F(pin, reset_keeps_pins)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(PAGES, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, close_unpins)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	CLOSE_NODE();
	EXPECT_UNPINNED();
}

TEST_F(pin, close_in_a_batch_unpins)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_map(self->fd, self->iova + self->len, PAGE, self->mem));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	CLOSE_NODE();
	EXPECT_UNPINNED();
}

TEST_F(pin, all_address_spaces_unpin)
{
	uint32_t asid;

	OWN();
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	for (asid = 0; asid < self->caps.nas; asid++)
		ASSERT_OK(iotlb_map_asid(self->fd, asid, self->iova, self->len, self->mem));
	EXPECT_EQ((long)(PAGES * self->caps.nas), pinned_self());
	CLOSE_NODE();
	EXPECT_EQ(0, pinned_self());
}

/* A child that owns the device and has mapped; it waits for its end. */
static pid_t mapping_child(int fd, uint64_t iova, size_t len, char *mem)
{
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c = !vioctl(fd, VHOST_SET_OWNER, NULL) &&
		    !iotlb_map(fd, iova, len, mem);
		if (write(ready[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1 || !c)
		pid = -1;
	close(ready[0]);
	return pid;
}

TEST_F(pin, kill_unpins)
{
	pid_t pid = mapping_child(self->fd, self->iova, self->len, self->mem);

	ASSERT_LT(0, pid);
	/* The child's file is now the only one. */
	ASSERT_EQ(0, close(self->fd));
	EXPECT_EQ(self->system + PAGES, wait_pinned_system(self->system + PAGES));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
	/* Free for the next one. */
	self->fd = vdpa_open();
	ASSERT_LE(0, self->fd);
	OWN();
	EXPECT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
}

TEST_F(pin, file_outlives_its_owner)
{
	pid_t pid = mapping_child(self->fd, self->iova, self->len, self->mem);

	ASSERT_LT(0, pid);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	/* The pins belong to the file, which we still hold. */
	EXPECT_EQ(self->system + PAGES, wait_pinned_system(self->system + PAGES));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, 0, 0));
	CLOSE_NODE();
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

TEST_F(pin, pages_outlive_their_mapping)
{
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	ASSERT_EQ(0, munmap(self->mem, self->len));
	EXPECT_EQ(PAGES, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, memlock_limit)
{
	ASSERT_OK(drop_capabilities());
	ASSERT_OK(limit_memlock(PAGES));
	OWN();
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len + PAGE,
				       self->mem));
	EXPECT_EQ(0, pinned_self());
	/* Exactly the limit, and no page more. */
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova + self->len, PAGE,
				       self->mem));
	EXPECT_EQ(PAGES, pinned_self());
	/* What is given back may be taken again. */
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
}

TEST_F(pin, memlock_limit_of_zero)
{
	ASSERT_OK(drop_capabilities());
	ASSERT_OK(limit_memlock(0));
	OWN();
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, self->mem));
	EXPECT_EQ(0, pinned_self());
}

TEST_F(pin, memlock_limit_spans_address_spaces)
{
	if (self->caps.nas < 2)
		SKIP(return, "the parent has one address space");
	ASSERT_OK(drop_capabilities());
	ASSERT_OK(limit_memlock(PAGES));
	OWN();
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_ASID)));
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	EXPECT_ERRNO(EFAULT, iotlb_map_asid(self->fd, 1, self->iova, PAGE, self->mem));
}

/*
 * The memory of a q35 guest as QEMU maps it, in pages and to a quarter of the size, so that every
 * parent's table has room for single pages: the hole for VGA stays unmapped.
 */
static const struct {
	size_t gpa, pages;
	uint8_t perm;
} guest[] = {
	{ 0, 0x28, VHOST_ACCESS_RW },
	{ 0x30, 8, VHOST_ACCESS_RO },	/* option ROMs */
	{ 0x38, 8, VHOST_ACCESS_RO },	/* firmware */
	{ 0x40, 0x20, VHOST_ACCESS_RW },
};
#define GUEST_PARTS	(sizeof(guest) / sizeof(guest[0]))
#define GUEST_LAST	(guest[GUEST_PARTS - 1])
#define GUEST_HOLE	0x28
#define GUEST_PAGES	0x58

/* Map one part of a guest. */
static int map_part(int fd, uint64_t iova, char *mem, size_t i)
{
	uint64_t at = guest[i].gpa * PAGE;

	return iotlb_v2(fd, 0, VHOST_IOTLB_UPDATE, iova + at, guest[i].pages * PAGE, mem + at,
			guest[i].perm);
}

/* Map a guest in one batch. Returns the first error, or 0. */
static int map_guest(int fd, uint64_t iova, char *mem)
{
	int r = iotlb_batch(fd, 0, true), ended;
	size_t i;

	for (i = 0; i < GUEST_PARTS && !r; i++)
		r = map_part(fd, iova, mem, i);
	ended = iotlb_batch(fd, 0, false);
	return r ?: ended;
}

/*
 * Start a process that sets the limit of this one to each number of pages that is written to the
 * descriptor, as prlimit(1) does, and answers with a byte. It ends with this one.
 */
static int start_operator(int device)
{
	pid_t client = getpid();
	struct rlimit l;
	size_t pages;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return -errno;
	switch (fork()) {
	case -1:
		return -errno;
	case 0:
		close(device);
		close(s[0]);
		while (read(s[1], &pages, sizeof(pages)) == sizeof(pages)) {
			char failed;

			l.rlim_cur = l.rlim_max = pages * PAGE;
			failed = !!prlimit(client, RLIMIT_MEMLOCK, &l, NULL);
			if (write(s[1], &failed, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(s[1]);
	return s[0];
}

static int operator_limits(int fd, size_t pages)
{
	char failed;

	if (write(fd, &pages, sizeof(pages)) != sizeof(pages) || read(fd, &failed, 1) != 1)
		return -EIO;
	return failed ? -EPERM : 0;
}

/* The memory of a guest, and an owner without capabilities whose limit the operator sets. */
#define START_GUEST(mem, operator) do {					\
	(mem) = private_pages((GUEST_LAST.gpa + GUEST_LAST.pages) * PAGE); \
	(operator) = start_operator(self->fd);				\
	ASSERT_NE(NULL, (mem));						\
	ASSERT_LE(0, (operator));					\
	ASSERT_OK(drop_capabilities());					\
	OWN();								\
} while (0)

TEST_F(pin, memlock_limit_of_a_guest_is_exact)
{
	int operator;
	char *mem;

	START_GUEST(mem, operator);
	/* One page short: the last part is refused, and the others stay. */
	ASSERT_OK(operator_limits(operator, GUEST_PAGES - 1));
	EXPECT_ERRNO(EFAULT, map_guest(self->fd, self->iova, mem));
	EXPECT_EQ(GUEST_PAGES - GUEST_LAST.pages, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
	EXPECT_EQ(0, pinned_self());
	/* Exact: all of it, and no page more. */
	ASSERT_OK(operator_limits(operator, GUEST_PAGES));
	ASSERT_OK(map_guest(self->fd, self->iova, mem));
	EXPECT_EQ(GUEST_PAGES, pinned_self());
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova + GUEST_HOLE * PAGE, PAGE, self->mem));
	EXPECT_EQ(GUEST_PAGES, pinned_self());
}

TEST_F(pin, memlock_limit_changes_under_a_guest)
{
	int operator;
	char *mem;

	START_GUEST(mem, operator);
	ASSERT_OK(operator_limits(operator, GUEST_PAGES));
	ASSERT_OK(map_guest(self->fd, self->iova, mem));
	/* Lowered: what is mapped stays, and what is new or mapped again is refused. */
	ASSERT_OK(operator_limits(operator, GUEST_PAGES / 2));
	EXPECT_EQ(GUEST_PAGES, pinned_self());
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova + GUEST_HOLE * PAGE, PAGE, self->mem));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + guest[1].gpa * PAGE, guest[1].pages * PAGE));
	EXPECT_EQ(GUEST_PAGES - guest[1].pages, pinned_self());
	EXPECT_ERRNO(EFAULT, map_part(self->fd, self->iova, mem, 1));
	EXPECT_EQ(GUEST_PAGES - guest[1].pages, pinned_self());
	/* Raised, by as much as is needed: the same map is accepted. */
	ASSERT_OK(operator_limits(operator, GUEST_PAGES - 1));
	EXPECT_ERRNO(EFAULT, map_part(self->fd, self->iova, mem, 1));
	ASSERT_OK(operator_limits(operator, GUEST_PAGES));
	ASSERT_OK(map_part(self->fd, self->iova, mem, 1));
	EXPECT_EQ(GUEST_PAGES, pinned_self());
}

TEST_F(pin, remap_in_a_batch_fits_the_limit)
{
	int i;

	ASSERT_OK(drop_capabilities());
	ASSERT_OK(limit_memlock(PAGES));
	OWN();
	ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	for (i = 0; i < 3; i++) {
		ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
		ASSERT_OK(iotlb_map(self->fd, self->iova, self->len, self->mem));
	}
	/* However long the batch, the pins stay within the limit. */
	EXPECT_GE(PAGES, pinned_self());
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(PAGES, pinned_self());
}

TEST_F(pin, cap_ipc_lock_exempts)
{
	int r;

	ASSERT_OK(limit_memlock(PAGES / 2));
	OWN();
	r = iotlb_map(self->fd, self->iova, self->len, self->mem);
	C_MAY_DIFFER(r == -EFAULT, "CAP_IPC_LOCK does not exempt");
	EXPECT_EQ(0, r);
	/* Exempt, and counted all the same. */
	EXPECT_EQ(PAGES, pinned_self());
}

TEST_HARNESS_MAIN
