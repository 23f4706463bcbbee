// SPDX-License-Identifier: GPL-2.0
#include "files.h"
#include "pages.h"

void *shared_pages(size_t len)
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

void *private_pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *guarded_page(void)
{
	char *p = private_pages(2 * PAGE);

	if (!p || mprotect(p + PAGE, PAGE, PROT_NONE))
		return NULL;
	return p;
}

void *aligned_area(size_t len, int prot)
{
	char *p = mmap(NULL, len + HUGE_PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return (void *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
}

bool all_bytes(const void *p, size_t len, unsigned char byte)
{
	const unsigned char *at = p;
	size_t i;

	for (i = 0; i < len; i++)
		if (at[i] != byte)
			return false;
	return true;
}

long pinned_self(void)
{
	long kb = read_key("/proc/self/status", "VmPin:");

	return kb < 0 ? -1 : kb * 1024 / (long)PAGE;
}

/* Pages that are pinned in the whole system at this moment, whoever pinned them. */
static long pinned_system_now(void)
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

long pinned_system(void)
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

long wait_pinned_system(long want)
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

int parent_pins(int fd, uint64_t iova)
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

uint64_t page_frame(int pagemap, const void *p)
{
	uint64_t e;

	if (pread(pagemap, &e, sizeof(e), (uintptr_t)p / PAGE * 8) != sizeof(e))
		return 0;
	return frame_in(e);
}

uint64_t physical(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t found = fd < 0 ? 0 : page_frame(fd, p);

	close(fd);
	return found * PAGE;
}

void *physical_area(size_t len)
{
	char *p = aligned_area(HUGE_PAGE, PROT_READ | PROT_WRITE);
	uint64_t start;
	size_t off;

	if (!p || len > HUGE_PAGE || madvise(p, HUGE_PAGE, MADV_HUGEPAGE))
		return NULL;
	memset(p, 0, HUGE_PAGE);
	start = physical(p);
	for (off = 0; start && off < len; off += PAGE)
		if (physical(p + off) != start + off)
			return NULL;
	return start ? p : NULL;
}

/* The offset of a page of p after which the next lies in physical memory too, or -1. */
static long find_contiguous(int pagemap, const void *p, size_t len)
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

void *contiguous_pages(void *(*alloc)(size_t))
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	char *found = NULL;
	size_t len;

	for (len = HUGE_PAGE; fd >= 0 && !found && len <= 16384 * PAGE; len *= 2) {
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

int drop_capabilities(void)
{
	struct { uint32_t version; int pid; } head = { 0x20080522, 0 };
	struct { uint32_t effective, permitted, inheritable; } data[2] = {};

	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

int limit_memlock(size_t pages)
{
	struct rlimit l = { pages * PAGE, pages * PAGE };

	return setrlimit(RLIMIT_MEMLOCK, &l) ? -errno : 0;
}
