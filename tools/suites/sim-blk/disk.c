// SPDX-License-Identifier: GPL-2.0
/*
 * Whether a block device keeps what it was given. fio verifies what it wrote; this also
 * what was zeroed, by several at a time, and the whole disk in the end.
 *
 *   disk verify DEVICE SEED JOBS OPS	every sector is written, read, zeroed and discarded at
 *					random, by JOBS threads; what is read must be what was
 *					written last, on a disk of zeroes at first
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR 512
#define STRIPE 512	/* sectors that belong to the same job */
#define LONGEST 512	/* sectors of one operation */
#define UNKNOWN UINT32_MAX

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

static void *alloc_pages(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

static uint64_t device_size(int fd)
{
	uint64_t size;

	if (ioctl(fd, BLKGETSIZE64, &size))
		die("BLKGETSIZE64");
	return size;
}

static int disk;
static uint64_t sectors, seed;
static int jobs, ops;
static uint32_t *written;	/* generation of each sector; 0: zeroes */

/* A sector begins with its number and generation; the rest depends on both. */
static void fill(uint64_t *words, uint64_t sector, uint32_t generation)
{
	uint64_t state = (seed ^ sector << 24 ^ generation) | 1;
	int i;

	if (!generation) {
		memset(words, 0, SECTOR);
		return;
	}
	words[0] = sector;
	words[1] = generation;
	for (i = 2; i < SECTOR / 8; i++)
		words[i] = next_random(&state);
}

static void check(const void *found, uint64_t sector)
{
	uint64_t want[SECTOR / 8];
	const uint64_t *words = found;
	int i;

	if (written[sector] == UNKNOWN)
		return;
	fill(want, sector, written[sector]);
	for (i = 0; i < SECTOR / 8; i++)
		if (words[i] != want[i]) {
			printf("sector %lu, word %d: %lx, not %lx of generation %u (found: sector %lu, generation %lu)\n",
			       sector, i, words[i], want[i], written[sector], words[0], words[1]);
			exit(1);
		}
}

static void *job(void *arg)
{
	uint64_t stripes = sectors / STRIPE, state = (seed * jobs + (uintptr_t)arg) * 2 + 1;
	char *buf = alloc_pages(LONGEST * SECTOR);
	uint32_t generation = 0;
	int i, op;

	for (i = 0; i < 20; i++)
		next_random(&state);
	for (op = 0; op < ops; op++) {
		uint64_t mine = (stripes - (uintptr_t)arg + jobs - 1) / jobs;
		uint64_t stripe = next_random(&state) % mine * jobs + (uintptr_t)arg;
		uint64_t at = next_random(&state) % STRIPE;
		uint64_t count = 1 + next_random(&state) % (STRIPE - at), k;
		uint64_t first = stripe * STRIPE + at;
		uint64_t range[2] = { first * SECTOR, count * SECTOR };
		int what = next_random(&state) % 16;

		if (what < 8) {
			/* Most requests are short. */
			if (what < 4 && count > 8)
				range[1] = (count = 8) * SECTOR;
			if (pread(disk, buf, range[1], range[0]) != (ssize_t)range[1])
				die("read");
			for (k = 0; k < count; k++)
				check(buf + k * SECTOR, first + k);
			continue;
		}
		if (what == 14 && ioctl(disk, BLKZEROOUT, range))
			die("BLKZEROOUT");
		if (what == 15 && ioctl(disk, BLKDISCARD, range) && errno != EOPNOTSUPP)
			die("BLKDISCARD");
		generation++;
		for (k = 0; k < count; k++) {
			written[first + k] = what == 15 ? UNKNOWN : what == 14 ? 0 : generation;
			fill((uint64_t *)(buf + k * SECTOR), first + k, generation);
		}
		if (what < 14 && pwrite(disk, buf, range[1], range[0]) != (ssize_t)range[1])
			die("write");
		if (what == 13 && fdatasync(disk))
			die("fdatasync");
	}
	return NULL;
}

static int verify(char **argv)
{
	pthread_t threads[64];
	uint64_t at, k, known = 0;
	char *buf;
	int i;

	seed = strtoull(argv[1], NULL, 0);
	jobs = atoi(argv[2]);
	ops = atoi(argv[3]);
	disk = open(argv[0], O_RDWR | O_DIRECT);
	if (disk < 0)
		die(argv[0]);
	sectors = device_size(disk) / SECTOR / STRIPE * STRIPE;
	if (jobs < 1 || jobs > 64 || sectors / STRIPE < (uint64_t)jobs) {
		fprintf(stderr, "%d jobs on %lu sectors?\n", jobs, sectors);
		return 1;
	}
	written = calloc(sectors, sizeof(*written));
	buf = alloc_pages(LONGEST * SECTOR);
	if (!written)
		die("calloc");
	for (i = 0; i < jobs; i++)
		if (pthread_create(&threads[i], NULL, job, (void *)(uintptr_t)i))
			die("pthread_create");
	for (i = 0; i < jobs; i++)
		pthread_join(threads[i], NULL);
	for (at = 0; at < sectors; at += LONGEST) {
		if (pread(disk, buf, LONGEST * SECTOR, at * SECTOR) != LONGEST * SECTOR)
			die("read");
		for (k = 0; k < LONGEST; k++) {
			check(buf + k * SECTOR, at + k);
			known += written[at + k] != 0 && written[at + k] != UNKNOWN;
		}
	}
	printf("%d operations of %d jobs; all %lu sectors are right, %lu of them written\n",
	       ops * jobs, jobs, sectors, known);
	return known == 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "verify"))
		return verify(argv + 2);
	fprintf(stderr, "usage: disk verify DEVICE SEED JOBS OPS\n");
	return 2;
}
