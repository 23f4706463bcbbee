// SPDX-License-Identifier: GPL-2.0
/*
 * Time what userspace asks of a vhost-vdpa device: maps, unmaps, small messages
 * and ioctls.
 *
 *   mapbench DEVICE CASE...
 *
 * A case is KIND:MIB:HOW with KIND 4k, thp, hugetlb, memfd, memfd-2m, memfd-1g or shm and
 * HOW batch or single:
 * all of the memory is mapped (in updates of at most 256 MiB) and unmapped again;
 * or "small" (1024 maps and unmaps of one page; "small-shm" of shared memory), or
 * "ioctl" (10000 GET_STATUS). Parents that use virtual addresses map shared memory
 * alone, and that is what shm is.
 *
 * One line a measurement: "CASE WHAT NANOSECONDS". Memory is touched before, so
 * that page faults are not measured; 4k and memfd are scattered. Of shm it is the mean of 256
 * times, or of as many as fit into a second.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/memfd.h>
#include <linux/vhost.h>

#define IOVA	0x100000000ULL
#define CHUNK	(256ULL << 20)
#define WARM	(256ULL << 10)
#define SMALL	1024
#define CALLS	10000
#define STRIDE	8191	/* odd, so that it meets every page of a power of two */

static int fd;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void message(int type, uint64_t iova, uint64_t size, void *addr)
{
	struct vhost_msg_v2 msg = { .type = VHOST_IOTLB_MSG_V2 };

	msg.iotlb.type = type;
	msg.iotlb.iova = iova;
	msg.iotlb.size = size;
	msg.iotlb.uaddr = (uintptr_t)addr;
	msg.iotlb.perm = VHOST_ACCESS_RW;
	if (write(fd, &msg, sizeof(msg)) != sizeof(msg))
		err(1, "message %d iova %#llx size %#llx", type,
		    (unsigned long long)iova, (unsigned long long)size);
}

/* Memory of a guest as QEMU and libvirt set it up for vDPA devices. */
static void *file_memory(const char *pages, size_t size)
{
	int flags = !strcmp(pages, "-2m") ? MFD_HUGETLB | MFD_HUGE_2MB :
		    !strcmp(pages, "-1g") ? MFD_HUGETLB | MFD_HUGE_1GB : 0;
	int file = memfd_create("mapbench", flags);
	char *p;

	if (file < 0 || ftruncate(file, size))
		err(1, "memfd%s", pages);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (p == MAP_FAILED)
		err(1, "memfd%s memory", pages);
	close(file);
	for (size_t i = 0; !flags && i < size / 4096; i++)
		p[i * STRIDE % (size / 4096) * 4096] = 1;
	for (size_t at = 0; at < size; at += 4096)
		p[at] = 1;
	return p;
}

static void *memory(const char *kind, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *p;

	if (!strncmp(kind, "memfd", 5))
		return file_memory(kind + 5, size);
	if (!strcmp(kind, "hugetlb"))
		flags |= MAP_HUGETLB;
	else if (!strcmp(kind, "shm"))
		flags = MAP_SHARED | MAP_ANONYMOUS;
	p = mmap(NULL, size + (2 << 20), PROT_READ | PROT_WRITE,
		 flags | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		err(1, "%s memory", kind);
	p = (char *)(((uintptr_t)p + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
	if (!strcmp(kind, "4k"))
		madvise(p, size, MADV_NOHUGEPAGE);
	else if (!strcmp(kind, "thp"))
		madvise(p, size, MADV_HUGEPAGE);
	/*
	 * Pages that are touched in order often lie in order, and how often depends on
	 * what ran before. In this order neighbours never do.
	 */
	if (!strcmp(kind, "4k"))
		for (size_t i = 0; i < size / 4096; i++)
			p[i * STRIDE % (size / 4096) * 4096] = 1;
	for (size_t at = 0; at < size; at += 4096)
		p[at] = 1;
	return p;
}

/* Updates or invalidates for all of the memory. */
static void messages(int type, uint64_t size, char *p, int batch)
{
	if (batch)
		message(VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL);
	for (uint64_t at = 0; at < size; at += CHUNK)
		message(type, IOVA + at, size - at < CHUNK ? size - at : CHUNK, p + at);
	if (batch)
		message(VHOST_IOTLB_BATCH_END, 0, 0, NULL);
}

static void map_case(const char *name)
{
	char kind[16], how[16];
	unsigned int mib;
	uint64_t size, t0, t1, t2, map = 0, unmap = 0;
	int batch, rounds = 0;
	char *p;

	if (sscanf(name, "%15[^:]:%u:%15s", kind, &mib, how) != 3)
		errx(1, "no such case: %s", name);
	size = (uint64_t)mib << 20;
	batch = !strcmp(how, "batch");
	p = memory(kind, size);

	/* Emulators translate code when it first runs, which is not to be measured. */
	for (int i = 0; i < 8; i++) {
		messages(VHOST_IOTLB_UPDATE, WARM < size ? WARM : size, p, batch);
		messages(VHOST_IOTLB_INVALIDATE, WARM < size ? WARM : size, p, batch);
	}
	/* Parents that use virtual addresses take microseconds for any size. */
	do {
		t0 = now();
		messages(VHOST_IOTLB_UPDATE, size, p, batch);
		t1 = now();
		messages(VHOST_IOTLB_INVALIDATE, size, p, batch);
		t2 = now();
		map += t1 - t0;
		unmap += t2 - t1;
	} while (!strcmp(kind, "shm") && ++rounds < 256 && map + unmap < 1000000000);
	rounds += !rounds;
	printf("%s map %llu\n%s unmap %llu\n", name, (unsigned long long)(map / rounds),
	       name, (unsigned long long)(unmap / rounds));
	munmap(p, size);
}

static void small_case(const char *name, const char *kind)
{
	char *p = memory(kind, SMALL * 4096);
	uint64_t t0, t1, t2;

	t0 = now();
	/* Every other page, so that ranges stay apart. */
	for (int i = 0; i < SMALL; i++)
		message(VHOST_IOTLB_UPDATE, IOVA + i * 8192ULL, 4096, p + i * 4096);
	t1 = now();
	for (int i = 0; i < SMALL; i++)
		message(VHOST_IOTLB_INVALIDATE, IOVA + i * 8192ULL, 4096, NULL);
	t2 = now();
	printf("%s map %llu\n%s unmap %llu\n", name, (unsigned long long)(t1 - t0),
	       name, (unsigned long long)(t2 - t1));
	munmap(p, SMALL * 4096);
}

static void ioctl_case(const char *name)
{
	uint64_t t0 = now();
	uint8_t status;

	for (int i = 0; i < CALLS; i++)
		if (ioctl(fd, VHOST_VDPA_GET_STATUS, &status))
			err(1, "GET_STATUS");
	printf("%s get_status %llu\n", name, (unsigned long long)(now() - t0));
}

int main(int argc, char **argv)
{
	uint64_t features = 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2 |
			    1ULL << VHOST_BACKEND_F_IOTLB_BATCH;

	if (argc < 3)
		errx(1, "usage: %s DEVICE CASE...", argv[0]);
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		err(1, "%s", argv[1]);
	if (ioctl(fd, VHOST_SET_OWNER) ||
	    ioctl(fd, VHOST_SET_BACKEND_FEATURES, &features))
		err(1, "%s: set-up", argv[1]);
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "small"))
			small_case(argv[i], "4k");
		else if (!strcmp(argv[i], "small-shm"))
			small_case(argv[i], "shm");
		else if (!strcmp(argv[i], "ioctl"))
			ioctl_case(argv[i]);
		else
			map_case(argv[i]);
		fflush(stdout);
	}
	return 0;
}
