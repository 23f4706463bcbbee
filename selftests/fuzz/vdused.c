// SPDX-License-Identifier: GPL-2.0
/*
 * A VDUSE device for the fuzzer, whose daemon may be killed: another one adopts the device.
 *
 *   vdused NAME VERSION PIDFILE
 *
 * PIDFILE has the number of the daemon that serves, and is written anew for each.
 */
#include "vduse.h"

int main(int argc, char **argv)
{
	struct vduse v = { .nvqs = 3 };
	char name[64];
	int r, status;
	FILE *f;

	if (argc != 4)
		return 2;
	v.name = argv[1];
	v.version = atoi(argv[2]);
	v.ngroups = v.nas = v.version ? 2 : 1;
	r = vduse_create(&v);
	if (r) {
		fprintf(stderr, "vdused: %s\n", strerror(-r));
		return 1;
	}
	for (;;) {
		snprintf(name, sizeof(name), "%s.new", argv[3]);
		f = fopen(name, "w");
		if (!f)
			return 1;
		fprintf(f, "%d\n", v.pid);
		fclose(f);
		rename(name, argv[3]);
		if (waitpid(v.pid, &status, 0) != v.pid)
			return 1;
		if (!WIFSIGNALED(status)) {
			fprintf(stderr, "vdused: the daemon ended with %#x\n", status);
			return 1;
		}
		r = vduse_start(&v, true);
		if (r) {
			fprintf(stderr, "vdused: no new daemon: %s\n", strerror(-r));
			return 1;
		}
	}
}
