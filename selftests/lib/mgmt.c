// SPDX-License-Identifier: GPL-2.0
#include "mgmt.h"

int mgmt_find_node(const char *name, char *node)
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

int mgmt_run_for(const char *cmd, int ms)
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

int mgmt_add(const char *name, char *node)
{
	char cmd[256];
	int r;

	snprintf(cmd, sizeof(cmd), "vdpa dev add name %s mgmtdev %s", name,
		 getenv("MGMTDEV"));
	r = mgmt_run(cmd);
	return r ?: mgmt_find_node(name, node);
}

int mgmt_del(const char *name)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "vdpa dev del %s", name);
	return mgmt_run(cmd);
}

void mgmt_del_if_there(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/vdpa/devices/%s", name);
	if (!access(path, F_OK))
		mgmt_del(name);
}
