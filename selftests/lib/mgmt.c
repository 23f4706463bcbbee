// SPDX-License-Identifier: GPL-2.0
#include "mgmt.h"

int wait_node(const char *pattern, char *node, size_t len)
{
	int i;

	for (i = 0; i < 100; i++) {
		bool found = false;
		glob_t g;

		if (!glob(pattern, 0, NULL, &g)) {
			snprintf(node, len, "/dev/%s", strrchr(g.gl_pathv[0], '/') + 1);
			found = !access(node, F_OK);
			globfree(&g);
		}
		if (found)
			return 0;
		usleep(100000);
	}
	return -ENOENT;
}

int mgmt_find_node(const char *name, char *node)
{
	char pattern[128];

	snprintf(pattern, sizeof(pattern), "/sys/bus/vdpa/devices/%s/vhost-vdpa-*", name);
	return wait_node(pattern, node, NODE_LEN);
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

int mgmt_output(const char *cmd, char *text, size_t len)
{
	FILE *f = popen(cmd, "r");
	int status;

	text[0] = 0;
	if (!f)
		return -errno;
	text[fread(text, 1, len - 1, f)] = 0;
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int mgmt_add_on(const char *name, const char *mgmtdev, const char *options, char *node)
{
	char cmd[256];
	int r;

	snprintf(cmd, sizeof(cmd), "vdpa dev add name %s mgmtdev %s %s", name, mgmtdev, options);
	r = mgmt_run(cmd);
	return r ?: mgmt_find_node(name, node);
}

int mgmt_add(const char *name, char *node)
{
	return mgmt_add_on(name, getenv("MGMTDEV"), "", node);
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

static int mgmt_tell_driver(const char *name, const char *verb)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "echo %s >/sys/bus/vdpa/drivers/vhost_vdpa/%s", name, verb);
	return mgmt_run(cmd);
}

int mgmt_unbind(const char *name)
{
	return mgmt_tell_driver(name, "unbind");
}

int mgmt_bind(const char *name, char *node)
{
	return mgmt_tell_driver(name, "bind") ?: mgmt_find_node(name, node);
}

int mgmt_vstats(const char *name, int idx, char *text, size_t len)
{
	char cmd[160];

	snprintf(cmd, sizeof(cmd), "vdpa dev vstats show %s qidx %d 2>&1", name, idx);
	return mgmt_output(cmd, text, len);
}

long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	if (!at)
		return -1;
	at += strlen(key);
	at += strcspn(at, "0123456789");
	return *at ? strtol(at, NULL, 10) : -1;
}
