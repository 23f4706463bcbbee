// SPDX-License-Identifier: GPL-2.0
/*
 * What a disk behind a vhost-vdpa device takes from libblkio.
 *
 *   blkio NODE read|write|randread|randwrite BYTES DEPTH SECONDS
 *
 * Requests of BYTES, DEPTH at a time, on one queue; prints how many a second there
 * were, and how many MiB.
 */
#include <blkio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 128

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, strerror(-r), blkio_get_error_msg());
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t next_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 11;
}

int main(int argc, char **argv)
{
	struct blkio_completion completions[DEPTH_MAX];
	struct blkio_mem_region region;
	uint64_t blocks, capacity, at = 0, done = 0;
	double start, end;
	struct blkio *b;
	struct blkioq *q;
	size_t bytes;
	int rnd, writes, depth, seconds, i, n;

	if (argc != 6) {
		fprintf(stderr, "usage: blkio NODE read|write|randread|randwrite BYTES DEPTH SECONDS\n");
		return 2;
	}
	rnd = !strncmp(argv[2], "rand", 4);
	writes = !strcmp(argv[2] + (rnd ? 4 : 0), "write");
	bytes = strtoull(argv[3], NULL, 0);
	depth = atoi(argv[4]);
	seconds = atoi(argv[5]);
	if (depth < 1 || depth > DEPTH_MAX || !bytes) {
		fprintf(stderr, "depth %d, %zu bytes?\n", depth, bytes);
		return 1;
	}

	check(blkio_create("virtio-blk-vhost-vdpa", &b), "create");
	check(blkio_set_str(b, "path", argv[1]), "path");
	check(blkio_connect(b), "connect");
	check(blkio_start(b), "start");
	check(blkio_get_uint64(b, "capacity", &capacity), "capacity");
	check(blkio_alloc_mem_region(b, &region, bytes * depth), "memory");
	check(blkio_map_mem_region(b, &region), "map");
	q = blkio_get_queue(b, 0);
	blocks = capacity / bytes;
	for (i = 0; i < depth; i++)
		completions[i].user_data = (char *)region.addr + i * bytes;

	start = now();
	for (n = depth;;) {
		for (i = 0; i < n; i++) {
			void *buf = completions[i].user_data;
			uint64_t offset = (rnd ? next_random() : at++) % blocks * bytes;

			if (writes)
				blkioq_write(q, offset, buf, bytes, buf, 0);
			else
				blkioq_read(q, offset, buf, bytes, buf, 0);
		}
		n = blkioq_do_io(q, completions, 1, depth, NULL);
		check(n, "do_io");
		for (i = 0; i < n; i++)
			check(completions[i].ret, "a request");
		done += n;
		end = now();
		if (end - start >= seconds)
			break;
	}
	printf("%.0f %.1f\n", done / (end - start), done * bytes / (end - start) / (1 << 20));
	blkio_destroy(&b);
	return 0;
}
