// SPDX-License-Identifier: GPL-2.0
#include "job.h"
#include "netlink.h"

int job_start(struct job *j, int (*fn)(void *arg), void *arg)
{
	*j = (struct job){};
	j->result = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (j->result == MAP_FAILED)
		return -errno;
	*j->result = 0;
	j->pid = fork();
	if (j->pid < 0)
		return -errno;
	if (!j->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Above all not the device under test. */
		close_range(3, ~0U, 0);
		*j->result = fn(arg);
		_exit(0);
	}
	j->pidfd = syscall(SYS_pidfd_open, j->pid, 0);
	return j->pidfd < 0 ? -errno : 0;
}

int job_wait(struct job *j, int ms)
{
	struct pollfd p = { .fd = j->pidfd, .events = POLLIN };
	int status, r;

	if (!j->pid)
		return -ESRCH;
	if (poll(&p, 1, ms) != 1)
		return JOB_RUNS;
	waitpid(j->pid, &status, 0);
	close(j->pidfd);
	j->pid = 0;
	r = *j->result;
	munmap(j->result, PAGE);
	return WIFEXITED(status) ? r : JOB_KILLED;
}

int job_kill(struct job *j, int ms)
{
	if (!j->pid)
		return -ESRCH;
	kill(j->pid, SIGKILL);
	return job_wait(j, ms);
}

int job_del(void *name)
{
	return nl_del(name);
}

int job_show(void *name)
{
	return nl_dev(VDPA_CMD_DEV_GET, name, NULL);
}

int job_open(void *node)
{
	int fd = node_open(node);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}
