// SPDX-License-Identifier: GPL-2.0
/*
 * Every file operation against every ending, in both orders, on each kind of parent.
 *
 * A cell is an operation, an ending and an order: the operation is held inside the parent and
 * the ending begins, or the ending is held inside the parent (in its reset, or where it takes
 * the maps away) and the operation is tried. Then what is held goes on. The end of all cells is
 * checked alike: the device is reset, has no maps and none of our callbacks; nothing is pinned or
 * charged; no file that was mapped is left; what `vdpa dev show` asks is answered; the
 * successor's open works.
 *
 * One TAP line is a row: all operations against one ending in one order. Cells that cannot exist
 * are not counted; ENDINGS_NAMED=1 names each, with the reason, and the last lines count them.
 *
 *	endings [FLAVOUR...]
 *	ENDINGS_STRIDE=N	every Nth cell only, beginning with ENDINGS_FIRST (0)
 *	ENDINGS_ONLY=TEXT	only cells whose name has TEXT
 *	ENDINGS_COUNT=1		run nothing: print how many cells exist by ending and order
 *	TEST_PARENT_KO=FILE	the test parent's module: without it none is unloaded
 *	TEST_PARENT_DMA=PCI	a PCI device behind an IOMMU: without it there is no platform parent
 */
#include <pthread.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>

#include "vdpa_test.h"
#include "bus.h"
#include "test_parent.h"
#include "vduse.h"

#define NAME		"selftest_e"
#define IOVA		0x10000000UL
#define IOVA2		0x20000000UL
#define PAGES		4
#define NO_DRIVER	63	/* a virtio device ID that nobody drives */

#define ORDER_PARAM	"/sys/module/vdpa_test_parent/parameters/order"

enum flavour { SET_MAP, DMA_MAP, VA, PLATFORM, VDUSE0, VDUSE1, FLAVOURS };
static const char *const flavours[] = {
	"set_map", "dma_map", "va", "platform", "vduse_v0", "vduse_v1",
};

/* How the file is when the operation begins. */
enum before {
	CLOSED,		/* there is none */
	OPENED,		/* nobody is its owner */
	READY,		/* mapped, with callbacks, not yet negotiated */
	AGREED,		/* negotiated, not yet running */
	RUNNING,
	BATCH,		/* running, with a batch that has something */
	BELL,		/* running, with a doorbell that is mapped */
};

struct world {
	enum flavour flavour;
	char node[NODE_LEN];
	int fd;
	int ops;		/* the control file of the latches */
	bool by_param;		/* the module's parameter instead */
	int call, kick, config, error;
	char *mem;		/* PAGES that are mapped, and one more */
	uint32_t *bell;
	struct vduse v;
};

/*
 * Operations
 */

static int plain(struct world *w, unsigned long cmd)
{
	uint64_t arg[32] = {};

	return vioctl(w->fd, cmd, arg);
}

static int do_set_status(struct world *w) { return set_status(w->fd, STATUS_RUNNING); }
static int do_reset(struct world *w) { return set_status(w->fd, 0); }
static int do_set_features(struct world *w) { return set_features(w->fd, FEATURES_MODERN); }

static int config_access(struct world *w, unsigned long cmd)
{
	struct { struct vhost_vdpa_config c; char buf[8]; } arg = { .c = { .len = 8 } };

	return vioctl(w->fd, cmd, &arg);
}

static int do_get_config(struct world *w) { return config_access(w, VHOST_VDPA_GET_CONFIG); }
static int do_set_config(struct world *w) { return config_access(w, VHOST_VDPA_SET_CONFIG); }

static int do_backend(struct world *w)
{
	return set_backend_features(w->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH));
}

static int do_config_call(struct world *w)
{
	return vioctl(w->fd, VHOST_VDPA_SET_CONFIG_CALL, &w->config);
}

static int do_call(struct world *w) { return vring_file(w->fd, VHOST_SET_VRING_CALL, 0, w->call); }
static int do_no_call(struct world *w) { return vring_file(w->fd, VHOST_SET_VRING_CALL, 0, -1); }
static int do_kick_fd(struct world *w) { return vring_file(w->fd, VHOST_SET_VRING_KICK, 0, w->kick); }
static int do_no_kick_fd(struct world *w) { return vring_file(w->fd, VHOST_SET_VRING_KICK, 0, -1); }
static int do_err(struct world *w) { return vring_file(w->fd, VHOST_SET_VRING_ERR, 0, w->error); }
static int do_num(struct world *w) { return vring_state(w->fd, VHOST_SET_VRING_NUM, 0, 32); }
static int do_addr(struct world *w) { return vring_addr(w->fd, 0, IOVA, IOVA + 512, IOVA + 1024); }
static int do_base(struct world *w) { return vring_state(w->fd, VHOST_SET_VRING_BASE, 0, 1); }

static int do_enable(struct world *w)
{
	return vring_state(w->fd, VHOST_VDPA_SET_VRING_ENABLE, 0, 1);
}

static int do_group_asid(struct world *w)
{
	int n = w->flavour == VA || w->flavour == VDUSE1;

	return set_group_asid(w->fd, n, n);
}

static int do_update(struct world *w)
{
	return iotlb_map(w->fd, IOVA2, PAGE, w->mem + PAGES * PAGE);
}

static int do_update_v1(struct world *w)
{
	return iotlb_v1(w->fd, VHOST_IOTLB_UPDATE, IOVA2, PAGE, w->mem + PAGES * PAGE,
			VHOST_ACCESS_RW);
}

static int do_invalidate(struct world *w) { return iotlb_unmap(w->fd, IOVA, PAGES * PAGE); }
static int do_invalidate_all(struct world *w) { return iotlb_unmap(w->fd, 0, 0); }

static int do_invalidate_v1(struct world *w)
{
	return iotlb_v1(w->fd, VHOST_IOTLB_INVALIDATE, IOVA, PAGES * PAGE, NULL, 0);
}

static int do_batch_begin(struct world *w) { return iotlb_batch(w->fd, 0, true); }
static int do_batch_end(struct world *w) { return iotlb_batch(w->fd, 0, false); }

static int do_mmap(struct world *w)
{
	void *p = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, w->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, PAGE);
	return 0;
}

/* The map is the last that holds the file, if it was closed. */
static int do_fault(struct world *w)
{
	__atomic_store_n(w->bell, 1, __ATOMIC_SEQ_CST);
	munmap(w->bell, PAGE);
	w->bell = NULL;
	return 0;
}

static int do_kick(struct world *w) { return eventfd_write(w->kick, 1) ? -errno : 0; }

static int do_open(struct world *w)
{
	int fd = node_open(w->node);

	if (fd < 0)
		return fd;
	w->fd = fd;
	return 0;
}

static int do_second_open(struct world *w)
{
	int fd = node_open(w->node);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int do_close(struct world *w)
{
	int fd = w->fd;

	w->fd = -1;
	return close(fd) ? -errno : 0;
}

/* The only one that has the file is a message that nobody will receive. */
static int do_pass(struct world *w)
{
	char c = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &c, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	int s[2], r = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return -errno;
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &w->fd, sizeof(int));
	if (sendmsg(s[0], &m, 0) != 1)
		r = -errno;
	close(w->fd);
	w->fd = -1;
	close(s[0]);
	close(s[1]);
	return r;
}

/* A child has the file last, and exits. */
static int do_fork(struct world *w)
{
	int go[2], status;
	char c;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(w->fd);
	w->fd = -1;
	close(go[0]);
	close(go[1]);
	return waitpid(pid, &status, 0) == pid ? 0 : -errno;
}

/* Where the answer differs by the kind of parent. */
#define MAP	"map"		/* what maps */
#define UNMAP	"unmap"		/* what unmaps */
#define PUSH	"push"		/* set_map only: a batch waits for its end */
#define MAP_1	"map_1"		/* dma_map only: one range, also in a batch */
#define UNMAP_1	"unmap_1"
#define BIND_MM	"bind_mm"	/* user addresses only */
#define BELL_OP	"get_vq_notification"

#define NO_MSG	-1

enum {
	NO_FILE = 1,	/* does not need the file, so it can be tried while that is being closed */
	CONSUMES = 2,	/* gives up the file */
	ANY_RESULT = 4,	/* of one that is tried while the device goes */
};

static const struct op {
	const char *name;
	enum before before;
	int (*fn)(struct world *);
	unsigned long cmd;	/* of an ioctl with nothing but zeroes */
	const char *in;		/* the op of a parent that it can be held in */
	int msg;		/* and VDUSE's message */
	int flags;
} operations[] = {
#define IOCTL(nr, when, op, message)					\
	{ #nr, .before = when, .cmd = nr, .in = op, .msg = message }
#define CALL(title, when, f, op, message, ...)				\
	{ title, .before = when, .fn = f, .in = op, .msg = message, .flags = 0 __VA_ARGS__ }
	IOCTL(VHOST_VDPA_GET_DEVICE_ID, RUNNING, "get_device_id", NO_MSG),
	IOCTL(VHOST_VDPA_GET_STATUS, RUNNING, "get_status", NO_MSG),
	CALL("VHOST_VDPA_SET_STATUS", RUNNING, do_set_status, "set_status", VDUSE_SET_STATUS),
	CALL("VHOST_VDPA_SET_STATUS start", AGREED, do_set_status, "set_status", VDUSE_SET_STATUS),
	CALL("VHOST_VDPA_SET_STATUS 0", RUNNING, do_reset, "reset", VDUSE_SET_STATUS),
	CALL("VHOST_VDPA_GET_CONFIG", RUNNING, do_get_config, "get_config", NO_MSG),
	CALL("VHOST_VDPA_SET_CONFIG", RUNNING, do_set_config, "set_config", NO_MSG),
	IOCTL(VHOST_GET_FEATURES, RUNNING, "get_device_features", NO_MSG),
	CALL("VHOST_SET_FEATURES", READY, do_set_features, "set_driver_features", NO_MSG),
	IOCTL(VHOST_VDPA_GET_VRING_NUM, RUNNING, "get_vq_num_max", NO_MSG),
	IOCTL(VHOST_VDPA_GET_GROUP_NUM, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_VDPA_GET_AS_NUM, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_VDPA_GET_VQS_COUNT, RUNNING, NULL, NO_MSG),
	CALL("VHOST_VDPA_SET_CONFIG_CALL", RUNNING, do_config_call, "set_config_cb", NO_MSG),
	IOCTL(VHOST_GET_BACKEND_FEATURES, RUNNING, NULL, NO_MSG),
	CALL("VHOST_SET_BACKEND_FEATURES", READY, do_backend, NULL, NO_MSG),
	IOCTL(VHOST_VDPA_GET_IOVA_RANGE, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_VDPA_GET_CONFIG_SIZE, RUNNING, "get_config_size", NO_MSG),
	IOCTL(VHOST_VDPA_SUSPEND, RUNNING, "suspend", NO_MSG),
	IOCTL(VHOST_VDPA_RESUME, RUNNING, "resume", NO_MSG),
	IOCTL(VHOST_SET_OWNER, OPENED, BIND_MM, NO_MSG),
	IOCTL(VHOST_RESET_OWNER, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_SET_MEM_TABLE, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_SET_LOG_BASE, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_SET_LOG_FD, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_NEW_WORKER, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_FREE_WORKER, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_ATTACH_VRING_WORKER, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_GET_VRING_WORKER, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_SET_VRING_ENDIAN, READY, NULL, NO_MSG),
	IOCTL(VHOST_GET_VRING_ENDIAN, READY, NULL, NO_MSG),
	IOCTL(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, RUNNING, NULL, NO_MSG),
	IOCTL(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, RUNNING, NULL, NO_MSG),
	CALL("VHOST_SET_VRING_NUM", READY, do_num, "set_vq_num", NO_MSG),
	CALL("VHOST_SET_VRING_ADDR", READY, do_addr, "set_vq_address", NO_MSG),
	CALL("VHOST_SET_VRING_BASE", READY, do_base, "set_vq_state", NO_MSG),
	IOCTL(VHOST_GET_VRING_BASE, RUNNING, "get_vq_state", VDUSE_GET_VQ_STATE),
	CALL("VHOST_SET_VRING_KICK", RUNNING, do_kick_fd, NULL, NO_MSG),
	CALL("VHOST_SET_VRING_KICK none", RUNNING, do_no_kick_fd, NULL, NO_MSG),
	CALL("VHOST_SET_VRING_CALL", RUNNING, do_call, "set_vq_cb", NO_MSG),
	CALL("VHOST_SET_VRING_CALL none", RUNNING, do_no_call, "set_vq_cb", NO_MSG),
	CALL("VHOST_SET_VRING_ERR", RUNNING, do_err, NULL, NO_MSG),
	CALL("VHOST_VDPA_SET_VRING_ENABLE", RUNNING, do_enable, "set_vq_ready", NO_MSG),
	IOCTL(VHOST_VDPA_GET_VRING_GROUP, RUNNING, "get_vq_group", NO_MSG),
	IOCTL(VHOST_VDPA_GET_VRING_DESC_GROUP, RUNNING, NULL, NO_MSG),
	CALL("VHOST_VDPA_SET_GROUP_ASID", READY, do_group_asid, "set_group_asid",
	     VDUSE_SET_VQ_GROUP_ASID),
	IOCTL(VHOST_VDPA_GET_VRING_SIZE, RUNNING, "get_vq_size", NO_MSG),
	CALL("UPDATE", RUNNING, do_update, MAP, VDUSE_UPDATE_IOTLB),
	CALL("UPDATE v1", RUNNING, do_update_v1, MAP, VDUSE_UPDATE_IOTLB),
	CALL("UPDATE in a batch", BATCH, do_update, MAP_1, NO_MSG),
	CALL("INVALIDATE", RUNNING, do_invalidate, UNMAP, VDUSE_UPDATE_IOTLB),
	CALL("INVALIDATE v1", RUNNING, do_invalidate_v1, UNMAP, VDUSE_UPDATE_IOTLB),
	CALL("INVALIDATE everything", RUNNING, do_invalidate_all, UNMAP, VDUSE_UPDATE_IOTLB),
	CALL("INVALIDATE in a batch", BATCH, do_invalidate, UNMAP_1, NO_MSG),
	CALL("BATCH_BEGIN", RUNNING, do_batch_begin, NULL, NO_MSG),
	CALL("BATCH_END", BATCH, do_batch_end, PUSH, VDUSE_UPDATE_IOTLB),
	CALL("mmap", RUNNING, do_mmap, NULL, NO_MSG),
	CALL("fault", BELL, do_fault, BELL_OP, NO_MSG, | ANY_RESULT),
	CALL("kick", RUNNING, do_kick, NULL, NO_MSG, | NO_FILE | ANY_RESULT),
	CALL("open", CLOSED, do_open, "reset", VDUSE_SET_STATUS),
	CALL("second open", RUNNING, do_second_open, NULL, NO_MSG, | NO_FILE | ANY_RESULT),
	CALL("close", RUNNING, do_close, "reset", VDUSE_SET_STATUS, | CONSUMES | ANY_RESULT),
	CALL("SCM_RIGHTS", RUNNING, do_pass, "reset", VDUSE_SET_STATUS, | CONSUMES | ANY_RESULT),
	CALL("fork and exit", RUNNING, do_fork, "reset", VDUSE_SET_STATUS, | CONSUMES | ANY_RESULT),
};

static bool is_vduse(enum flavour f)
{
	return f >= VDUSE0;
}

/* Which op of the parent maps or unmaps, or NULL. */
static const char *map_op(enum flavour f, bool unmaps)
{
	switch (f) {
	case SET_MAP: case VA:
		return "set_map";
	case DMA_MAP:
		return unmaps ? "dma_unmap" : "dma_map";
	default:
		return NULL;
	}
}

/* Which op of this kind of parent an operation can be held in, or NULL. */
static const char *held_op(const struct op *o, enum flavour f)
{
	if (!o->in)
		return NULL;
	if (!strcmp(o->in, MAP))
		return map_op(f, false);
	if (!strcmp(o->in, UNMAP))
		return map_op(f, true);
	if (!strcmp(o->in, PUSH))
		return f == DMA_MAP ? NULL : map_op(f, false);
	if (!strcmp(o->in, MAP_1) || !strcmp(o->in, UNMAP_1))
		return f == DMA_MAP ? map_op(f, !strcmp(o->in, UNMAP_1)) : NULL;
	if (!strcmp(o->in, BIND_MM) && f != VA)
		return NULL;
	return o->in;
}

static int held_msg(const struct op *o, enum flavour f)
{
	return o->msg == VDUSE_SET_VQ_GROUP_ASID && f == VDUSE0 ? NO_MSG : o->msg;
}

static int run_op(struct world *w, const struct op *o)
{
	return o->fn ? o->fn(w) : plain(w, o->cmd);
}

/*
 * Endings
 */

enum how { DEL, UNBIND, OVERRIDE, RMMOD, KILL, CLOSE, DAEMON_STOPS, DAEMON_DIES };
enum { FAIL_RESET = 1, FAIL_UNMAP = 2 };

static const struct ending {
	const char *name;
	enum how how;
	int fail;
} endings[] = {
	{ "dev_del", DEL },
	{ "unbind", UNBIND },
	{ "driver_override", OVERRIDE },
	{ "rmmod", RMMOD },
	{ "kill", KILL },
	{ "close", CLOSE },
	{ "dev_del_reset_fails", DEL, FAIL_RESET },
	{ "unbind_reset_fails", UNBIND, FAIL_RESET },
	{ "kill_reset_fails", KILL, FAIL_RESET },
	{ "close_reset_fails", CLOSE, FAIL_RESET },
	{ "unbind_unmap_fails", UNBIND, FAIL_UNMAP },
	{ "close_unmap_fails", CLOSE, FAIL_UNMAP },
	{ "unbind_both_fail", UNBIND, FAIL_RESET | FAIL_UNMAP },
	{ "close_both_fail", CLOSE, FAIL_RESET | FAIL_UNMAP },
	{ "daemon_stops", DAEMON_STOPS },
	{ "daemon_dies", DAEMON_DIES },
};

static bool removes(enum how how)
{
	return how <= RMMOD;
}

static bool of_daemon(enum how how)
{
	return how == DAEMON_STOPS || how == DAEMON_DIES;
}

enum order { OP_HELD, RESET_HELD, UNMAP_HELD, ORDERS };
static const char *const orders[] = { "op_held", "held_in_reset", "held_in_unmap" };

/* Cells are only counted: what is missing on this machine does not matter. */
static bool counting;

/* Why a cell does not exist, or NULL. */
static const char *impossible(enum flavour f, const struct ending *e, enum order order,
			      const struct op *o)
{
	bool mapped = o->before >= READY;

	if (of_daemon(e->how) && !is_vduse(f))
		return "this parent has no daemon";
	if (e->how == RMMOD && is_vduse(f))
		return "vduse.ko cannot be unloaded while a daemon has its device";
	if (e->how == RMMOD && !counting && !getenv("TEST_PARENT_KO"))
		return "the test parent's module is not at hand";
	if (e->how == OVERRIDE && !counting && access(VDPA_BUS "drivers/virtio_vdpa", F_OK))
		return "virtio_vdpa is not loaded";
	if ((e->fail & FAIL_UNMAP) && f == PLATFORM)
		return "the platform's IOMMU does not refuse to unmap";
	if (f != PLATFORM && o->fn == do_fault && is_vduse(f))
		return "VDUSE has no doorbells";
	if (o->fn == do_mmap && is_vduse(f))
		return "VDUSE has no doorbells";
	if (order == OP_HELD) {
		if (is_vduse(f) ? held_msg(o, f) == NO_MSG : !held_op(o, f))
			return o->fn == do_kick ? "kick_vq must not sleep" :
				"the operation does not enter this parent where it can be held";
		if (e->how == CLOSE && (o->before == CLOSED || (o->flags & CONSUMES)))
			return "closing is the operation, or there is nothing to close";
		if (e->how == KILL && is_vduse(f))
			return "a wait for the daemon ends by the signal: vduse_daemon has these";
		return NULL;
	}
	if (of_daemon(e->how))
		return order == RESET_HELD ? NULL : "the ending has no op that could be held";
	if (o->before == CLOSED)
		return "nothing is open, so the ending has no op that could be held";
	if (!removes(e->how) && !(o->flags & NO_FILE))
		return "the operation needs the file, which the ending has closed";
	if (order == UNMAP_HELD) {
		if (f == PLATFORM)
			return "the parent has no op that unmaps";
		if (!mapped)
			return "nothing is mapped yet";
		/* The daemon's refusal of a reset is an answer: it is asked for the maps after it. */
	}
	if (order == RESET_HELD && e->how == KILL && is_vduse(f))
		return "a wait for the daemon ends by the signal: vduse_daemon has these";
	if (order == UNMAP_HELD && e->how == KILL && is_vduse(f))
		return "a wait for the daemon ends by the signal: vduse_daemon has these";
	return NULL;
}

/* No memory is allocated here: the operation may hold the lock of the address space. */
static int run_ending(struct world *w, enum how how)
{
	int r;

	switch (how) {
	case DEL:
		return nl_del(NAME);
	case UNBIND:
		return bus_unbind(NAME);
	case OVERRIDE:
		return bus_override(NAME);
	case RMMOD:
		return syscall(SYS_delete_module, "vdpa_test_parent", O_NONBLOCK) ? -errno : 0;
	default:
		r = close(w->fd) ? -errno : 0;
		w->fd = -1;
		return r;
	}
}

static int load_parent(void)
{
	int fd = open(getenv("TEST_PARENT_KO"), O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

/*
 * Threads that make the calls: there from the beginning, as a fault that is held has the lock that
 * a new thread's stack would need.
 */
struct worker {
	pthread_t thread;
	int wake, stat;
	struct world *w;
	const struct op *op;
	enum how how;
	bool show;
	int result;
	bool busy;
};

static struct worker workers[3];
#define OP_WORKER	(&workers[0])
#define END_WORKER	(&workers[1])
#define SHOW_WORKER	(&workers[2])

static void *work(void *arg)
{
	struct worker *k = arg;
	char path[64];
	uint64_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", syscall(SYS_gettid));
	STORE(k->stat, open(path, O_RDONLY | O_CLOEXEC));
	for (;;) {
		if (read(k->wake, &n, sizeof(n)) != sizeof(n))
			return NULL;
		if (k->show)
			k->result = nl_dev(VDPA_CMD_DEV_GET, NAME, NULL);
		else if (k->op)
			k->result = run_op(k->w, k->op);
		else
			k->result = run_ending(k->w, k->how);
		STORE(k->busy, false);
	}
}

static void start(struct worker *k, struct world *w, const struct op *op, enum how how)
{
	k->w = w;
	k->op = op;
	k->how = how;
	k->show = !w;
	STORE(k->busy, true);
	eventfd_write(k->wake, 1);
}

/* Whether the thread or process of a stat file sleeps in the kernel, or has ended. */
static bool sleeps(int stat)
{
	char text[256], *at;
	ssize_t n = pread(stat, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = 0;
	at = strchr(text, ')');
	return !at || strchr("SDZ", at[2]);
}

/* Wait until it does, for three looks, or until nothing is busy any more. */
static void let_sleep(int stat, const bool *busy)
{
	int i, asleep = 0;

	for (i = 0; i < 2000 && LOAD(*busy) && asleep < 3; i++) {
		usleep(1000);
		asleep = sleeps(stat) ? asleep + 1 : 0;
	}
}

/* Wait until a worker is done or sleeps in the kernel. */
static void let_begin(struct worker *k)
{
	let_sleep(k->stat, &k->busy);
}

/* How long anything may take that does not wait for us. */
static int patience_ms = 20000;

/* Returns what a worker's call returned, or -ETIMEDOUT. */
static int join(struct worker *k)
{
	return WAIT_FOR(!LOAD(k->busy), patience_ms) ? k->result : -ETIMEDOUT;
}

/*
 * Latches
 */

static int give_order(struct world *w, const char *what, const char *op, int n)
{
	char text[64];

	if (!w->by_param)
		return ops_order(w->ops, what, op, n);
	snprintf(text, sizeof(text), "%s %s %d", what, op, n);
	return write_file(ORDER_PARAM, text);
}

static bool waits(struct world *w, const char *op)
{
	char text[1024], word[64];
	ssize_t n;
	int fd;

	if (!w->by_param)
		return ops_told(w->ops, "waiting_", op) > 0;
	fd = open(ORDER_PARAM, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = 0;
	snprintf(word, sizeof(word), "waiting_%s ", op);
	return strstr(text, word);
}

/* Hold the next call of an op, or the next message of a type. */
static void hold(struct world *w, const char *op, int msg)
{
	if (is_vduse(w->flavour))
		vduse_plan(&w->v, msg, (struct vduse_plan){ .act = VDUSE_HOLD, .times = 1 });
	else
		give_order(w, "enter", op, 1);
}

static bool is_held(struct world *w, const char *op, int ms)
{
	if (is_vduse(w->flavour))
		return WAIT_FOR(LOAD(w->v.s->held) == 1, ms);
	return WAIT_FOR(waits(w, op), ms);
}

static void go(struct world *w, const char *op, int msg, int fail)
{
	bool refuse = (msg == VDUSE_SET_STATUS && (fail & FAIL_RESET)) ||
		      (msg == VDUSE_UPDATE_IOTLB && (fail & FAIL_UNMAP));

	if (is_vduse(w->flavour)) {
		if (!refuse)
			vduse_plan(&w->v, msg, (struct vduse_plan){});
		vduse_release(&w->v, !refuse);
	} else {
		give_order(w, "go", op, 0);
	}
}

static void let_fail(struct world *w, int fail, int n)
{
	if (is_vduse(w->flavour)) {
		struct vduse_plan plan = { .act = n ? VDUSE_REFUSE : VDUSE_ANSWER };

		if (fail & FAIL_RESET)
			vduse_plan(&w->v, VDUSE_SET_STATUS, plan);
		if (fail & FAIL_UNMAP)
			vduse_plan(&w->v, VDUSE_UPDATE_IOTLB, plan);
		return;
	}
	if (fail & FAIL_RESET)
		give_order(w, "fail", "reset", n);
	if (fail & FAIL_UNMAP)
		give_order(w, "fail", map_op(w->flavour, true), n);
	if (fail == (FAIL_RESET | FAIL_UNMAP))
		give_order(w, "fail", "reset_map", n);
}

/*
 * The device and the file
 */

static int tmpfs_fd = -1;

/* Blocks of memory in files of the tmpfs that all mapped memory is from. */
static long file_blocks(void)
{
	struct statfs s;

	return fstatfs(tmpfs_fd, &s) ? -1 : (long)(s.f_blocks - s.f_bfree);
}

/* Memory of an unlinked file, which no child inherits. */
static char *file_pages(size_t len)
{
	int fd = openat(tmpfs_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, len))
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (fd >= 0)
		close(fd);
	return p == MAP_FAILED || madvise(p, len, MADV_DONTFORK) ? NULL : p;
}

static int device_make(struct world *w)
{
	static const int styles[] = { STYLE_SET_MAP, STYLE_DMA_MAP, STYLE_VA, STYLE_NEITHER };
	int n, r;

	if (is_vduse(w->flavour)) {
		n = w->flavour == VDUSE1 ? 2 : 1;
		w->v = (struct vduse){
			.name = NAME, .version = n - 1, .nvqs = 2, .ngroups = n, .nas = n,
		};
		r = vduse_create(&w->v);
		strcpy(w->node, w->v.node);
		return r ?: vduse_set_timeout(&w->v, 0);
	}
	r = knob("style", styles[w->flavour]);
	r = r ?: knob("spaces", w->flavour == PLATFORM ? 1 : 2);
	r = r ?: knob("device_id", NO_DRIVER);
	if (w->flavour == PLATFORM)
		r = r ?: write_file("/sys/module/vdpa_test_parent/parameters/dma_dev",
				    getenv("TEST_PARENT_DMA"));
	r = r ?: parent_add(NAME, w->node);
	if (r)
		return r;
	w->ops = ops_open(NAME);
	return w->ops < 0 ? w->ops : 0;
}

static int device_gone(struct world *w)
{
	int r = 0;

	if (is_vduse(w->flavour)) {
		if (w->v.pid)
			vduse_continue(&w->v);
		else
			vduse_set_timeout(&w->v, 1);
		nl_del_if_there(NAME);
		vduse_kill(&w->v);
		r = vduse_destroy(&w->v);
		if (w->v.s)
			munmap(w->v.s, sizeof(*w->v.s));
		if (w->v.wake > 0)
			close(w->v.wake);
		w->v = (struct vduse){};
		return r;
	}
	if (w->ops >= 0)
		close(w->ops);
	w->ops = -1;
	nl_del_if_there(NAME);
	return 0;
}

/* Bring the file to where an operation begins. */
static int set_up(struct world *w, enum before before)
{
	int r;

	w->bell = NULL;
	w->fd = -1;
	w->mem = file_pages((PAGES + 1) * PAGE);
	w->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->kick < 0)
		w->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w->config = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w->error = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!w->mem)
		return -ENOMEM;
	if (before == CLOSED)
		return 0;
	r = do_open(w);
	if (r || before == OPENED)
		return r;
	r = vioctl(w->fd, VHOST_SET_OWNER, NULL);
	r = r ?: iotlb_map(w->fd, IOVA, PAGES * PAGE, w->mem);
	r = r ?: do_call(w);
	r = r ?: do_kick_fd(w);
	r = r ?: do_err(w);
	r = r ?: do_config_call(w);
	if (before == READY)
		return r ?: set_status(w->fd, STATUS_DRIVER);
	r = r ?: negotiate(w->fd);
	if (before == AGREED)
		return r;
	r = r ?: set_status(w->fd, STATUS_RUNNING);
	if (before == BATCH) {
		r = r ?: iotlb_batch(w->fd, 0, true);
		r = r ?: iotlb_map(w->fd, IOVA + PAGES * PAGE, PAGE, w->mem + PAGES * PAGE);
	}
	if (!r && before == BELL) {
		w->bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, w->fd, 0);
		if (w->bell == MAP_FAILED) {
			w->bell = NULL;
			r = -errno;
		}
	}
	return r;
}

static void drop_events(struct world *w)
{
	close(w->call);
	close(w->kick);
	close(w->config);
	close(w->error);
	w->call = w->kick = w->config = w->error = -1;
}

/* What this process holds of the mapped memory. */
static void drop_memory(struct world *w)
{
	if (w->mem)
		munmap(w->mem, (PAGES + 1) * PAGE);
	w->mem = NULL;
}

/* Returns what a device that nobody has is left with and should not be, or NULL. */
static const char *left_with(struct world *w, int fail, bool other_driver)
{
	static char said[64];
	static const char *const zero[] = {
		"callback0", "callback1", "trigger0", "trigger1", "config_callback", "mm",
		"unpinned",
	};
	/* A parent that has no default map to go back to may keep what it will not unmap. */
	bool maps = (fail & FAIL_UNMAP) && (w->flavour == VA || (fail & FAIL_RESET));
	/* Another driver has it, and has said so. */
	bool status = (fail & FAIL_RESET) || other_driver;
	char text[4096];
	int fd, i;
	ssize_t n;

	if (is_vduse(w->flavour)) {
		if (!status && LOAD(w->v.s->status))
			return "status";
		if (vduse_mapped(&w->v, 0, IOVA) || vduse_mapped(&w->v, 0, IOVA2))
			return "maps";
		return NULL;
	}
	fd = open(TEST_STATE NAME, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return "no state";
	text[n] = 0;
	for (i = 0; i < ARRAY_SIZE(zero); i++)
		if (told_in(text, zero[i])) {
			snprintf(said, sizeof(said), "%s %ld", zero[i], told_in(text, zero[i]));
			return said;
		}
	if (!status && told_in(text, "status"))
		return "status";
	if (!maps && (told_in(text, "ranges0") || (w->flavour != PLATFORM && told_in(text, "ranges1"))))
		return "maps";
	return NULL;
}

/* The same for one that is gone, which the log tells. */
static const char *left_in_log(int kmsg, int fail)
{
	static char line[1024];
	int status, ranges, callbacks, mm, found;
	unsigned long unpinned;
	char *at;
	ssize_t n;

	for (;;) {
		n = read(kmsg, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return "nothing in the log";
		line[n] = 0;
		at = strstr(line, "left " NAME " ");
		if (at)
			break;
	}
	found = sscanf(at, "left " NAME " status %d ranges %d callbacks %d mm %d unpinned %lu",
		       &status, &ranges, &callbacks, &mm, &unpinned);
	if (found != 5 || ranges || callbacks || mm || unpinned ||
	    (status && !(fail & FAIL_RESET)))
		return at;
	return NULL;
}

/*
 * Cells
 */

/* What the log says of pages that are leaked. */
#define LEAK	"pages stay pinned"

static int kmsg = -1;
static long pins, charge;	/* what there was before, and what was leaked on purpose */
static char why[256];

#define FAIL(...) do {							\
	if (!why[0])							\
		snprintf(why, sizeof(why), __VA_ARGS__);		\
} while (0)

/* The owner of cells that kill it. */
struct victim {
	int ready;		/* 1, or -errno */
	int go, done, result;
};

static struct victim *victim;

static pid_t victim_start(struct world *w, const struct op *o)
{
	pid_t pid;

	memset(victim, 0, sizeof(*victim));
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Should the test be killed, this is not to keep us waiting in the parent. */
	close(w->ops);
	victim->result = set_up(w, o->before);
	STORE(victim->ready, victim->result ?: 1);
	if (!WAIT_FOR(LOAD(victim->go), 10 * patience_ms))
		_exit(1);
	victim->result = run_op(w, o);
	STORE(victim->done, 1);
	pause();
	_exit(0);
}

/* As let_begin(), for a process. */
static void let_settle(pid_t pid)
{
	bool busy = true;
	char path[64];
	int stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	stat = open(path, O_RDONLY | O_CLOEXEC);
	let_sleep(stat, &busy);
	if (stat >= 0)
		close(stat);
}

static bool is_dead(pid_t pid)
{
	int status;

	return WAIT_FOR(waitpid(pid, &status, WNOHANG) == pid, patience_ms);
}

/* The ending has ended: bring the device back to where it can be opened. */
static int bring_back(struct world *w, enum how how)
{
	int r = 0;

	switch (how) {
	case DEL:
		device_gone(w);
		return device_make(w);
	case UNBIND:
		return bus_bind(NAME, w->node);
	case OVERRIDE:
		return bus_override_back(NAME, w->node);
	case RMMOD:
		w->by_param = false;
		r = load_parent();
		return r ?: device_make(w);
	case DAEMON_STOPS: case DAEMON_DIES:
		r = device_gone(w);
		return r ?: device_make(w);
	default:
		return 0;
	}
}

static void check_pins(const char *when, long want)
{
	long now = wait_pinned_system(pins + want);

	if (now != pins + want)
		FAIL("%s %ld pages are pinned, %ld expected", when, now - pins, want);
}

/* Returns the most pages that a cell maps: those at the beginning, those of its batch, its own. */
static long most_pages(const struct op *o)
{
	return PAGES + (o->before == BATCH) + (o->fn == do_update || o->fn == do_update_v1);
}

/* After everything has ended. old: the file of a device that is gone is still open. */
static void check_end(struct world *w, const struct op *o, const struct ending *e)
{
	bool old = w->fd >= 0, both = e->fail == (FAIL_RESET | FAIL_UNMAP), gone;
	const char *left = NULL;
	long leaked = 0;
	int r, warned;

	gone = e->how == DEL || e->how == RMMOD;
	/* `vdpa dev show` answers, with the old file still open. */
	start(SHOW_WORKER, NULL, NULL, 0);
	r = join(SHOW_WORKER);
	if (r != (gone ? -ENODEV : 0))
		FAIL("dev show answers %d", r);
	if (of_daemon(e->how)) {
		/* Nobody is there to say what the device still has: its file goes with the close. */
		if (old)
			do_close(w);
		old = false;
	} else if (gone && !is_vduse(w->flavour)) {
		left = left_in_log(kmsg, e->fail);
	} else if (!gone) {
		WAIT_FOR(!(left = left_with(w, e->fail, e->how == OVERRIDE)), 3000);
	}
	if (left)
		FAIL("the device is left with %s", left);
	if (w->bell) {
		munmap(w->bell, PAGE);
		w->bell = NULL;
	}
	drop_memory(w);
	if (both && w->flavour != VA && !is_vduse(w->flavour)) {
		/* Pinned pages and their charge may be lost, with one warning. */
		leaked = pinned_self() - charge;
		warned = kmsg_count(kmsg, LEAK);
		if (leaked < 0 || leaked > most_pages(o))
			FAIL("%ld pages are pinned for good", leaked);
		if (warned != (leaked > 0))
			FAIL("%d warnings of %ld pages", warned, leaked);
		if (o->before >= READY && !leaked && !strstr(o->name, "INVALIDATE"))
			FAIL("nothing was leaked, though the device kept its maps");
	} else {
		warned = kmsg_count(kmsg, LEAK);
		if (warned)
			FAIL("%d warnings of leaked pages", warned);
	}
	check_pins("after the ending", leaked);
	if (pinned_self() != charge + leaked)
		FAIL("%ld pages are charged, %ld expected", pinned_self() - charge, leaked);
	pins += leaked;
	charge += leaked;
	if (!WAIT_FOR(!file_blocks(), 2000))
		FAIL("%ld pages of files are left", file_blocks());
	if (old && removes(e->how)) {
		r = get_status(w->fd);
		if (r != -ENODEV)
			FAIL("GET_STATUS of the old file: %d", r);
	}
	if (w->fd >= 0)
		do_close(w);
	drop_events(w);

	/* The successor. */
	r = bring_back(w, e->how);
	if (r) {
		FAIL("the device does not come back: %d", r);
		return;
	}
	let_fail(w, e->fail, 0);
	r = set_up(w, RUNNING);
	if (r)
		FAIL("the successor: %d", r);
	if (w->fd >= 0)
		do_close(w);
	drop_memory(w);
	drop_events(w);
	WAIT_FOR(!(left = left_with(w, 0, false)), 3000);
	if (left)
		FAIL("the successor leaves %s", left);
	check_pins("after the successor", 0);
	if (file_blocks())
		FAIL("%ld pages of files are left by the successor", file_blocks());
}

/* What the operation may return that had begun, or not, before the device went. */
static void check_result(const struct op *o, const struct ending *e, enum order order, int r,
			 int natural)
{
	if (r == -ETIMEDOUT) {
		FAIL("the operation does not end");
		return;
	}
	if ((o->flags & ANY_RESULT) || e->fail || of_daemon(e->how))
		return;
	if (order != OP_HELD && removes(e->how)) {
		if (r != -ENODEV)
			FAIL("the operation returns %d beside the removal", r);
	} else if (r != natural && r != -ENODEV) {
		FAIL("the operation returns %d, %d expected", r, natural);
	}
}

static void cell_of_daemon(struct world *w, const struct op *o, const struct ending *e,
			   enum order order)
{
	int msg = held_msg(o, w->flavour);

	/* A message keeps the timeout that it was sent with. */
	vduse_set_timeout(&w->v, 1);
	if (order == OP_HELD) {
		hold(w, NULL, msg);
		start(OP_WORKER, w, o, 0);
		if (!is_held(w, NULL, patience_ms))
			FAIL("the operation is not held");
	}
	if (e->how == DAEMON_STOPS) {
		if (!vduse_stop(&w->v))
			FAIL("the daemon does not stop");
	} else {
		vduse_kill(&w->v);
	}
	/* `vdpa dev show` answers meanwhile. */
	start(SHOW_WORKER, NULL, NULL, 0);
	if (join(SHOW_WORKER))
		FAIL("dev show answers %d", SHOW_WORKER->result);
	if (order != OP_HELD)
		start(OP_WORKER, w, o, 0);
	check_result(o, e, order, join(OP_WORKER), 0);
}

static void cell_of_kill(struct world *w, const struct op *o, const struct ending *e,
			 enum order order, const char *op)
{
	struct world mine = *w;
	pid_t pid;

	/* The file is the child's; a kick is ours too. */
	mine.fd = -1;
	w->kick = mine.kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	pid = victim_start(w, o);
	if (!WAIT_FOR(LOAD(victim->ready), patience_ms) || victim->ready != 1) {
		FAIL("set-up: %d", victim->ready);
	} else if (order == OP_HELD) {
		hold(w, op, 0);
		STORE(victim->go, 1);
		if (!is_held(w, op, patience_ms))
			FAIL("the operation is not held");
		let_fail(w, e->fail, -1);
		kill(pid, SIGKILL);
		let_settle(pid);
	} else {
		hold(w, op, 0);
		let_fail(w, e->fail, -1);
		kill(pid, SIGKILL);
		if (!is_held(w, op, patience_ms))
			FAIL("the ending is not held");
		start(OP_WORKER, &mine, o, 0);
		check_result(o, e, order, join(OP_WORKER), -EBUSY);
	}
	start(SHOW_WORKER, NULL, NULL, 0);
	if (join(SHOW_WORKER))
		FAIL("dev show answers %d meanwhile", SHOW_WORKER->result);
	go(w, op, 0, e->fail);
	kill(pid, SIGKILL);
	if (!is_dead(pid))
		FAIL("the owner does not die");
	close(mine.kick);
	/* A child of the owner may be the last. */
	w->fd = -1;
	w->mem = NULL;
	w->call = w->kick = w->config = w->error = -1;
}

static void cell(struct world *w, const struct op *o, const struct ending *e, enum order order,
		 int natural)
{
	const char *op;
	int msg, r;

	why[0] = 0;
	lseek(kmsg, 0, SEEK_END);
	if (order == OP_HELD) {
		op = held_op(o, w->flavour);
		msg = held_msg(o, w->flavour);
	} else if (order == RESET_HELD) {
		op = "reset";
		msg = VDUSE_SET_STATUS;
	} else {
		op = map_op(w->flavour, true);
		msg = VDUSE_UPDATE_IOTLB;
	}
	if (e->how == KILL) {
		cell_of_kill(w, o, e, order, op);
		check_end(w, o, e);
		return;
	}
	r = set_up(w, o->before);
	if (r) {
		FAIL("set-up: %d", r);
		goto end;
	}
	if (e->how == RMMOD) {
		/* The control file holds the module. */
		close(w->ops);
		w->ops = -1;
		w->by_param = true;
	}
	if (of_daemon(e->how)) {
		cell_of_daemon(w, o, e, order);
		goto end;
	}
	hold(w, op, msg);
	if (order == OP_HELD) {
		start(OP_WORKER, w, o, 0);
		if (!is_held(w, op, patience_ms))
			FAIL("the operation is not held");
		let_fail(w, e->fail, -1);
		start(END_WORKER, w, NULL, e->how);
		let_begin(END_WORKER);
		if (removes(e->how) && !LOAD(END_WORKER->busy))
			FAIL("the removal does not wait for the op, and returns %d",
			     END_WORKER->result);
	} else {
		int fail = e->fail;

		/* VDUSE has one plan for a type of message: that which is held is refused later. */
		if (is_vduse(w->flavour))
			fail &= order == RESET_HELD ? ~FAIL_RESET : ~FAIL_UNMAP;
		let_fail(w, fail, -1);
		start(END_WORKER, w, NULL, e->how);
		if (!is_held(w, op, patience_ms))
			FAIL("the ending is not held");
		let_fail(w, e->fail, -1);
		start(OP_WORKER, w, o, 0);
		let_begin(OP_WORKER);
	}
	start(SHOW_WORKER, NULL, NULL, 0);
	/* Where vdpa core has its lock over the parent's op, an answer has to wait for that. */
	if (e->how != DEL && e->how != RMMOD && join(SHOW_WORKER))
		FAIL("dev show answers %d meanwhile", SHOW_WORKER->result);
	go(w, op, msg, e->fail);
	r = join(OP_WORKER);
	check_result(o, e, order, r, natural);
	r = join(END_WORKER);
	if (r)
		FAIL("the ending returns %d", r);
	if (join(SHOW_WORKER) == -ETIMEDOUT)
		FAIL("dev show does not answer");
end:
	check_end(w, o, e);
}

static void bail(const char *what)
{
	printf("Bail out! %s\n", what);
	fflush(stdout);
	_exit(1);
}

/* All calls of the parent's ops that may sleep so far. */
static long all_calls(struct world *w)
{
	char text[8192], *at;
	ssize_t n = pread(w->ops, text, sizeof(text) - 1, 0);
	long sum = 0;

	text[n < 0 ? 0 : n] = 0;
	for (at = text; (at = strstr(at, "calls_")); at++)
		sum += strtol(strchr(at, ' '), NULL, 10);
	return sum;
}

/*
 * What an operation returns by itself, and that one that is said to enter no op of the parent does
 * not. Once for each kind of parent.
 */
static void run_alone(struct world *w, int i, int *natural)
{
	const struct op *o = &operations[i];
	long before;
	int r;

	r = set_up(w, o->before);
	if (r)
		FAIL("%s alone: set-up: %d", o->name, r);
	before = is_vduse(w->flavour) ? 0 : all_calls(w);
	start(OP_WORKER, w, o, 0);
	natural[i] = join(OP_WORKER);
	if (natural[i] == -ETIMEDOUT)
		FAIL("%s alone does not end", o->name);
	if (!is_vduse(w->flavour) && !o->in && o->fn != do_mmap && all_calls(w) != before)
		FAIL("%s enters the parent", o->name);
	if (w->bell)
		munmap(w->bell, PAGE);
	if (w->fd >= 0)
		do_close(w);
	drop_memory(w);
	drop_events(w);
}

struct reason {
	const char *text;
	long n;
};

static struct reason reasons[32];

static void count_reason(const char *text)
{
	int i;

	for (i = 0; reasons[i].text && strcmp(reasons[i].text, text); i++)
		;
	reasons[i].text = text;
	reasons[i].n++;
}

static bool flavour_is_there(enum flavour f, const char **reason)
{
	*reason = NULL;
	if (is_vduse(f)) {
		if (!vduse_there())
			*reason = "no " VDUSE_CONTROL;
	} else if (!nl_has_mgmtdev(TEST_MGMTDEV)) {
		*reason = "vdpa_test_parent is not loaded";
	} else if (f == PLATFORM && !getenv("TEST_PARENT_DMA")) {
		*reason = "this machine has no IOMMU (tools/suites/endings/endings.sh has one)";
	}
	return !*reason;
}

#define C_SKIP	" # SKIP C waits for the close (" C_SEEN ")"

static int count_cells(void)
{
	long n, sum = 0;
	int f, e, order, o;

	counting = true;
	for (e = 0; e < ARRAY_SIZE(endings); e++) {
		printf("%-24s", endings[e].name);
		for (order = 0; order < ORDERS; order++) {
			n = 0;
			for (f = 0; f < FLAVOURS; f++)
				for (o = 0; o < ARRAY_SIZE(operations); o++)
					n += !impossible(f, &endings[e], order, &operations[o]);
			printf("%16ld", n);
			sum += n;
		}
		printf("\n");
	}
	printf("# %zu operations, %ld cells\n", ARRAY_SIZE(operations), sum);
	return 0;
}

int main(int argc, char **argv)
{
	static int natural[ARRAY_SIZE(operations)];
	static bool known[ARRAY_SIZE(operations)];
	long stride = env_long("ENDINGS_STRIDE", 1), first = env_long("ENDINGS_FIRST", 0);
	bool named = env_long("ENDINGS_NAMED", 0);
	const char *only = getenv("ENDINGS_ONLY"), *reason;
	long ran = 0, exist = 0, absent = 0, failed = 0, number = 0;
	struct world world = {
		.fd = -1, .ops = -1, .call = -1, .kick = -1, .config = -1, .error = -1,
	}, *w = &world;
	char dir[] = "/tmp/endings-XXXXXX", name[256];
	int i, f, e, order, o;
	bool had_virtio, on_c = on_c_driver();

	if (env_long("ENDINGS_COUNT", 0))
		return count_cells();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (!access("/sys/kernel/debug/fail_usercopy", F_OK))
		patience_ms = 60000;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!mkdtemp(dir) || mount("endings", dir, "tmpfs", 0, NULL))
		bail("no tmpfs of its own");
	tmpfs_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kmsg = kmsg_open();
	victim = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < ARRAY_SIZE(workers); i++) {
		workers[i].wake = eventfd(0, EFD_CLOEXEC);
		workers[i].stat = -1;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) ||
		    !WAIT_FOR(LOAD(workers[i].stat) >= 0, 5000))
			bail("no threads");
	}
	had_virtio = !access(VDPA_BUS "drivers/virtio_vdpa", F_OK);
	if (!had_virtio)
		mgmt_run("modprobe virtio_vdpa");
	/* Of a run that was interrupted; nobody serves it. */
	write_file("/sys/class/vduse/" NAME "/msg_timeout", "1");
	nl_del_if_there(NAME);
	for (f = 0; f < FLAVOURS; f++) {
		long began = now_ms();

		for (i = 1; i < argc && strcmp(argv[i], flavours[f]); i++)
			;
		if (argc > 1 && i == argc)
			continue;
		if (!flavour_is_there(f, &reason)) {
			printf("ok %ld endings.%s # SKIP %s\n", ++number, flavours[f], reason);
			continue;
		}
		w->flavour = f;
		if (!is_vduse(f))
			knobs_reset();
		i = on_c ? 0 : device_make(w);
		if (i) {
			printf("not ok %ld endings.%s: no device: %d\n", ++number, flavours[f], i);
			failed++;
			continue;
		}
		pins = pinned_system();
		charge = pinned_self();
		memset(known, 0, sizeof(known));
		for (e = 0; e < ARRAY_SIZE(endings); e++) {
			for (order = 0; order < ORDERS; order++) {
				long cells = 0, bad = 0;

				for (o = 0; o < ARRAY_SIZE(operations); o++) {
					snprintf(name, sizeof(name), "%s.%s.%s.%s", flavours[f],
						 endings[e].name, orders[order], operations[o].name);
					reason = impossible(f, &endings[e], order, &operations[o]);
					if (reason) {
						absent++;
						count_reason(reason);
						if (named)
							printf("# no %s: %s\n", name, reason);
						continue;
					}
					if (exist++ % stride != first % stride)
						continue;
					if (only && !strstr(name, only))
						continue;
					cells++;
					if (on_c)
						continue;
					why[0] = 0;
					if (!known[o])
						run_alone(w, o, natural);
					known[o] = true;
					if (!why[0])
						cell(w, &operations[o], &endings[e], order,
						     natural[o]);
					if (!why[0])
						continue;
					bad++;
					printf("# %s: %s\n", name, why);
					for (i = 0; i < ARRAY_SIZE(workers); i++)
						if (LOAD(workers[i].busy))
							bail("a call does not end");
					/* A device of which nothing is known any more. */
					if (w->fd >= 0)
						do_close(w);
					device_gone(w);
					w->by_param = false;
					if (!nl_has_mgmtdev(TEST_MGMTDEV) && !is_vduse(f))
						load_parent();
					if (device_make(w))
						bail("no device any more");
					pins = pinned_system();
					charge = pinned_self();
				}
				ran += on_c ? 0 : cells;
				failed += !!bad;
				if (bad)
					printf("# %ld failed\n", bad);
				if (cells)
					printf("%sok %ld endings.%s.%s.%s: %ld cells%s\n",
					       bad ? "not " : "", ++number, flavours[f],
					       endings[e].name, orders[order], cells,
					       on_c ? C_SKIP : "");
			}
		}
		if (!on_c)
			device_gone(w);
		printf("# %s: %ld ms\n", flavours[f], now_ms() - began);
	}
	if (nl_has_mgmtdev(TEST_MGMTDEV))
		knobs_reset();
	if (!had_virtio)
		mgmt_run("rmmod virtio_vdpa");
	printf("1..%ld\n", number);
	for (i = 0; reasons[i].text; i++)
		printf("# %ld do not exist: %s\n", reasons[i].n, reasons[i].text);
	printf("# %ld cells ran of %ld that exist; %ld do not exist\n", ran, exist, absent);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	if (failed)
		return KSFT_FAIL;
	return ran ? KSFT_PASS : KSFT_SKIP;
}
