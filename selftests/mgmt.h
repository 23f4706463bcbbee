/* SPDX-License-Identifier: GPL-2.0 */
/* Devices of a test's own, made on MGMTDEV with iproute2's vdpa tool. */
#ifndef VDPA_TEST_MGMT_H
#define VDPA_TEST_MGMT_H

#include "vdpa_test.h"

#define PROMPT_MS	20000	/* how long a removal may take on the slowest machine */
#define NODE_LEN	64

/* Write text to a file: 0 or -errno. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = write(fd, text, strlen(text)) == strlen(text) ? 0 : -errno;
	close(fd);
	return r;
}

/* The number in an environment variable, if that is set and not empty. */
static inline long env_long(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtol(text, NULL, 0) : otherwise;
}

/* The node of a device once it is there: 0 or -ENOENT. */
static inline int mgmt_find_node(const char *name, char *node)
{
	char pattern[128];
	int i;

	snprintf(pattern, sizeof(pattern),
		 "/sys/bus/vdpa/devices/%s/vhost-vdpa-*", name);
	for (i = 0; i < 100; i++) {
		bool found = false;
		glob_t g;

		if (!glob(pattern, 0, NULL, &g)) {
			snprintf(node, NODE_LEN, "/dev/%s",
				 strrchr(g.gl_pathv[0], '/') + 1);
			found = !access(node, F_OK);
			globfree(&g);
		}
		if (found)
			return 0;
		usleep(100000);
	}
	return -ENOENT;
}

/* Run a command beside us: its exit status, or -ETIMEDOUT. */
static inline int mgmt_run_for(const char *cmd, int ms)
{
	struct pollfd p = { .events = POLLIN };
	pid_t pid = fork();
	int status;

	if (!pid) {
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	p.fd = syscall(SYS_pidfd_open, pid, 0);
	if (poll(&p, 1, ms) != 1)
		return -ETIMEDOUT;
	close(p.fd);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline int mgmt_run(const char *cmd)
{
	return mgmt_run_for(cmd, PROMPT_MS);
}

static inline int mgmt_add(const char *name, char *node)
{
	char cmd[256];
	int r;

	snprintf(cmd, sizeof(cmd), "vdpa dev add name %s mgmtdev %s", name,
		 getenv("MGMTDEV"));
	r = mgmt_run(cmd);
	return r ?: mgmt_find_node(name, node);
}

static inline int mgmt_del(const char *name)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "vdpa dev del %s", name);
	return mgmt_run(cmd);
}

/* The same for cleaning up: the device may be gone already. */
static inline void mgmt_del_if_there(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/vdpa/devices/%s", name);
	if (!access(path, F_OK))
		mgmt_del(name);
}

#endif
