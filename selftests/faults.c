// SPDX-License-Identifier: GPL-2.0
/*
 * Every call with each of its allocations and user copies failing in turn (the
 * kernel's fault injection, /proc/self/fail-nth): the error is a sane one, nothing
 * has changed, nothing is left behind. Needs the debug kernel, and
 * vdpa_test_parent, which says what a device was told.
 */
#include <pthread.h>

#include "vdpa_test.h"
#include "test_parent.h"

#define NAME	"selftest_f"
#define PAGES	24

struct context {
	char node[NODE_LEN];
	int fd;
	int event;
	uint64_t iova;
	char *mem;
	volatile uint32_t *bell;
};

static int fail_nth(int n)
{
	char text[16];
	int fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	if (n >= 0) {
		r = snprintf(text, sizeof(text), "%d", n);
		r = write(fd, text, r) == r ? 0 : -errno;
	} else {
		r = read(fd, text, sizeof(text) - 1);
		text[r > 0 ? r : 0] = 0;
		r = r > 0 ? atoi(text) : -errno;
	}
	close(fd);
	return r;
}

/* Without this the calls that may sleep would not fail, and each would be logged. */
static void set_up_faults(void)
{
	static const char *const values[][2] = {
		{ "failslab/ignore-gfp-wait", "N" }, { "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" }, { "fail_page_alloc/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" }, { "fail_usercopy/verbose", "0" },
	};
	int i, r;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		r = write_path(values[i][1], "/sys/kernel/debug/%s", values[i][0]);
		if (r)
			fprintf(stderr, "# %s: %s\n", values[i][0], strerror(-r));
	}
}

/* What there is to know of the device, without its counters. */
static void snapshot(struct context *c, char *buf, size_t len)
{
	static const char *const keys[] = {
		"status ", "map ", "identity", "callback", "trigger", "config_callback",
	};
	char line[256];
	FILE *f = fopen(TEST_STATE NAME, "r");
	size_t at = 0;
	int i;

	while (f && fgets(line, sizeof(line), f))
		for (i = 0; i < ARRAY_SIZE(keys); i++)
			if (!strncmp(line, keys[i], strlen(keys[i])) &&
			    at + strlen(line) < len)
				at += sprintf(buf + at, "%s", line);
	if (f)
		fclose(f);
	snprintf(buf + at, len - at, "pinned %ld\n", pinned_self());
}

#define GETTER(cmd) static int get_##cmd(struct context *c)		\
{									\
	char arg[256] = {};						\
									\
	return vioctl(c->fd, cmd, arg);					\
}
GETTER(VHOST_VDPA_GET_DEVICE_ID)
GETTER(VHOST_VDPA_GET_STATUS)
GETTER(VHOST_GET_FEATURES)
GETTER(VHOST_VDPA_GET_VRING_NUM)
GETTER(VHOST_VDPA_GET_GROUP_NUM)
GETTER(VHOST_VDPA_GET_AS_NUM)
GETTER(VHOST_VDPA_GET_VQS_COUNT)
GETTER(VHOST_VDPA_GET_CONFIG_SIZE)
GETTER(VHOST_VDPA_GET_IOVA_RANGE)
GETTER(VHOST_GET_BACKEND_FEATURES)
GETTER(VHOST_GET_VRING_BASE)
GETTER(VHOST_VDPA_GET_VRING_GROUP)

static int get_config(struct context *c)
{
	char arg[256] = {};

	((struct vhost_vdpa_config *)arg)->len = 64;
	return vioctl(c->fd, VHOST_VDPA_GET_CONFIG, arg);
}

static int set_config(struct context *c)
{
	char arg[256] = {};

	((struct vhost_vdpa_config *)arg)->len = 64;
	return vioctl(c->fd, VHOST_VDPA_SET_CONFIG, arg);
}

static int own(struct context *c) { return vioctl(c->fd, VHOST_SET_OWNER, NULL); }
static int ack(struct context *c) { return set_status(c->fd, STATUS_ACK); }
static int reset(struct context *c) { return set_status(c->fd, 0); }
static int features(struct context *c) { return set_features(c->fd, FEATURES_MODERN); }
static int go(struct context *c) { return negotiate(c->fd) ?: set_status(c->fd, STATUS_RUNNING); }
static int num(struct context *c) { return vring_state(c->fd, VHOST_SET_VRING_NUM, 0, 64); }
static int addr(struct context *c) { return vring_addr(c->fd, 0, 0x1000, 0x2000, 0x3000); }
static int base(struct context *c) { return vring_state(c->fd, VHOST_SET_VRING_BASE, 0, 7); }
static int enable(struct context *c) { return vring_state(c->fd, VHOST_VDPA_SET_VRING_ENABLE, 0, 1); }
static int group(struct context *c) { return set_group_asid(c->fd, 0, 1); }
static int kick(struct context *c) { return vring_file(c->fd, VHOST_SET_VRING_KICK, 0, c->event); }
static int call(struct context *c) { return vring_file(c->fd, VHOST_SET_VRING_CALL, 0, c->event); }
static int err(struct context *c) { return vring_file(c->fd, VHOST_SET_VRING_ERR, 0, c->event); }
static int uncall(struct context *c) { return vring_file(c->fd, VHOST_SET_VRING_CALL, 0, -1); }
static int config_call(struct context *c) { return vioctl(c->fd, VHOST_VDPA_SET_CONFIG_CALL, &c->event); }

static int backend(struct context *c)
{
	return set_backend_features(c->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH));
}

static int begin(struct context *c) { return iotlb_batch(c->fd, 0, true); }
static int end(struct context *c) { return iotlb_batch(c->fd, 0, false); }
static int update(struct context *c) { return iotlb_map(c->fd, c->iova, PAGES * PAGE, c->mem); }
static int more(struct context *c) { return iotlb_map(c->fd, c->iova + 64 * PAGE, PAGE, c->mem); }
static int invalidate(struct context *c) { return iotlb_unmap(c->fd, c->iova, PAGE); }
static int nothing(struct context *c) { return iotlb_unmap(c->fd, 0, 0); }
static int both(struct context *c) { return update(c) ?: more(c); }
static int batch(struct context *c) { return both(c) ?: begin(c) ?: invalidate(c); }

static int bell(struct context *c)
{
	c->bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->bell == MAP_FAILED) {
		c->bell = NULL;
		return -errno;
	}
	return 0;
}

static int ring(struct context *c)
{
	*c->bell = 1;
	return 0;
}

static int open_node(struct context *c)
{
	c->fd = node_open(c->node);
	return c->fd < 0 ? c->fd : 0;
}

static int close_node(struct context *c)
{
	int r = close(c->fd);

	c->fd = -1;
	return r;
}

static int shut(struct context *c) { return c->fd >= 0 ? close_node(c) : 0; }
static int running(struct context *c) { return both(c) ?: call(c) ?: go(c); }
static int close_running(struct context *c) { return close_node(c); }

static int add(struct context *c)
{
	return parent_add(NAME, NULL);
}

static int del(struct context *c) { return nl_del(NAME); }
static int del_shut(struct context *c) { return shut(c) ?: del(c); }

struct op {
	const char *name;
	int (*prepare)(struct context *c);	/* without faults */
	int (*call)(struct context *c);
	bool changes_anyway;	/* it cannot be undone, and need not */
	bool netlink;		/* asked for by way of a socket and files */
};

#define OP(name, prepare) { #name, prepare, name, false, false }
static const struct op ops[] = {
	OP(get_VHOST_VDPA_GET_DEVICE_ID, own), OP(get_VHOST_VDPA_GET_STATUS, own),
	OP(get_VHOST_GET_FEATURES, own), OP(get_VHOST_VDPA_GET_VRING_NUM, own),
	OP(get_VHOST_VDPA_GET_GROUP_NUM, own), OP(get_VHOST_VDPA_GET_AS_NUM, own),
	OP(get_VHOST_VDPA_GET_VQS_COUNT, own), OP(get_VHOST_VDPA_GET_CONFIG_SIZE, own),
	OP(get_VHOST_VDPA_GET_IOVA_RANGE, own), OP(get_VHOST_GET_BACKEND_FEATURES, own),
	OP(get_VHOST_GET_VRING_BASE, own), OP(get_VHOST_VDPA_GET_VRING_GROUP, own),
	OP(get_config, own), OP(set_config, own), OP(own, NULL), OP(ack, own),
	OP(features, own), OP(num, own), OP(addr, own), OP(base, own), OP(enable, own),
	OP(group, own), OP(kick, own), OP(call, own), OP(uncall, call), OP(err, own),
	OP(config_call, own), OP(backend, own),
	/* A parent without memory for its empty table has been reset all the same. */
	{ "reset", running, reset, true, false },
	OP(begin, own), OP(end, batch), OP(update, own), OP(more, update),
	OP(invalidate, both), OP(nothing, both), OP(bell, own), OP(ring, bell),
	OP(open_node, shut),
	{ "close", running, close_running, true, false },
	{ "add", del_shut, add, true, true },
	{ "del_open", running, del, true, true },
	{ "del_shut", shut, del, true, true },
};

/* Whether the preparation works only for an owner. */
static bool needs_owner(const struct op *op)
{
	return op->prepare && op->prepare != own && op->prepare != shut &&
	       op->prepare != del_shut;
}

FIXTURE(faults) {
	struct context c;
	long system;
};

FIXTURE_VARIANT(faults) {
	int style;
};

FIXTURE_VARIANT_ADD(faults, set_map) {
	.style = STYLE_SET_MAP,
};

FIXTURE_VARIANT_ADD(faults, dma_map) {
	.style = STYLE_DMA_MAP,
};

FIXTURE_SETUP(faults)
{
	self->c.fd = -1;
	NEEDS_TEST_PARENT();
	if (access("/proc/self/fail-nth", F_OK))
		SKIP(return, "no fault injection in this kernel");
	set_up_faults();
	TEST_PARENT_SETUP(NAME, variant->style);
	self->c.mem = private_pages(PAGES * PAGE);
	ASSERT_NE(NULL, self->c.mem);
	self->c.event = eventfd(0, EFD_NONBLOCK);
	self->c.iova = 0x10000000;
}

FIXTURE_TEARDOWN(faults)
{
	TEST_PARENT_TEARDOWN(NAME, self->c.fd);
	EXPECT_UNPINNED();
}

static bool sane(const struct op *op, int r)
{
	/* No socket to be had, or no answer about the family: the driver was not asked. */
	if (op->netlink && (r == -ENFILE || r == -ENOENT))
		return true;
	return r == -ENOMEM || r == -EFAULT || r == -EAGAIN || r == -ENOBUFS ||
	       r == -EINVAL || r == -EINTR;
}

/* From nothing to what the call needs: 0 or -errno. */
static int make_ready(struct context *c, const struct op *op)
{
	int r;

	if (c->bell)
		munmap((void *)c->bell, PAGE);
	c->bell = NULL;
	shut(c);
	nl_del_if_there(NAME);
	r = parent_add(NAME, c->node);
	r = r ?: open_node(c);
	if (!r && needs_owner(op))
		r = own(c);
	if (!r && op->prepare)
		r = op->prepare(c);
	return r;
}

TEST_F_TIMEOUT(faults, each_allocation_and_copy, 3600)
{
	static char before[16384], after[16384];
	long injected = 0, refused = 0;
	int i, nth, left, r;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		const struct op *op = &ops[i];
		long failed = 0;

		for (nth = 1; nth < 1000; nth++) {
			r = make_ready(&self->c, op);
			ASSERT_EQ(0, r) {
				TH_LOG("%s: cannot be prepared", op->name);
			}
			snapshot(&self->c, before, sizeof(before));
			ASSERT_OK(fail_nth(nth));
			r = op->call(&self->c);
			left = fail_nth(-1);
			ASSERT_OK(fail_nth(0));
			if (left)
				break;
			injected++;
			if (!r)
				continue;
			failed++;
			EXPECT_TRUE(sane(op, r)) {
				TH_LOG("%s, fault %d: %d", op->name, nth, r);
			}
			if (op->changes_anyway)
				continue;
			snapshot(&self->c, after, sizeof(after));
			EXPECT_STREQ(before, after) {
				TH_LOG("%s, fault %d: state changed", op->name, nth);
			}
			/* What failed for once works the next time. */
			r = op->call(&self->c);
			EXPECT_EQ(0, r) {
				TH_LOG("%s, fault %d: the next call failed", op->name, nth);
			}
		}
		/* Without faults it works. */
		EXPECT_EQ(0, r) {
			TH_LOG("%s: %d without a fault", op->name, r);
		}
		printf("# %s: %d faults, %ld failures\n", op->name, nth - 1, failed);
		refused += failed;
	}
	printf("# %ld faults injected, %ld calls failed\n", injected, refused);
	EXPECT_LT(0, refused);
	ASSERT_EQ(0, make_ready(&self->c, &ops[0]));
}

struct holder {
	const char *node;	/* of our own making: there before the device's */
	int event;
	bool stop;
	int fd;
	long opened;
};

/*
 * Who opens a device number that nobody has waits for modprobe: not here, where the
 * moment counts in which there is somebody.
 */
static void set_modprobe(const char *path)
{
	int r = write_file("/proc/sys/kernel/modprobe", path);

	if (r)
		fprintf(stderr, "# modprobe: %s\n", strerror(-r));
}

/* Take the device the moment that it can be had, give it callbacks, and keep it. */
static void *hold(void *arg)
{
	struct holder *h = arg;

	while (!__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE)) {
		int fd = open(h->node, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			continue;
		h->opened++;
		vioctl(fd, VHOST_SET_OWNER, NULL);
		vring_file(fd, VHOST_SET_VRING_CALL, 0, h->event);
		h->fd = fd;
		break;
	}
	return NULL;
}

/*
 * A probe that fails after the device could be opened: who holds the file has
 * nothing, and the parent is left without callbacks of ours.
 */
TEST_F_TIMEOUT(faults, probe_fails_under_an_open_file, 1200)
{
	struct context *c = &self->c;
	int nth, left, r, failed = 0, opened = 0, unbound = 0, fd;
	char path[] = "faults-node";
	struct stat st;
	pthread_t t;

	ASSERT_EQ(0, make_ready(c, &ops[0]));
	ASSERT_EQ(0, stat(c->node, &st));
	unlink(path);
	ASSERT_EQ(0, mknod(path, S_IFCHR | 0600, st.st_rdev));
	shut(c);
	set_modprobe("\n");
	for (nth = 1; nth < 1000; nth++) {
		struct holder h = { .node = path, .event = c->event, .fd = -1 };

		nl_del_if_there(NAME);
		/* The parent calls all the time. */
		ASSERT_OK(knob("call_mode", CALL_HARDIRQ));
		ASSERT_EQ(0, pthread_create(&t, NULL, hold, &h));
		ASSERT_OK(fail_nth(nth));
		r = add(c);
		left = fail_nth(-1);
		ASSERT_OK(fail_nth(0));
		__atomic_store_n(&h.stop, true, __ATOMIC_RELEASE);
		pthread_join(t, NULL);
		fd = h.fd;
		opened += fd >= 0;
		if (!r && access("/sys/bus/vdpa/devices/" NAME "/driver", F_OK))
			unbound++;
		else
			r = -1;
		if (!r && fd >= 0) {
			failed++;
			EXPECT_EQ(-ENODEV, get_status(fd));
			EXPECT_EQ(0, told(NAME, "callback0"));
		}
		if (fd >= 0)
			close(fd);
		if (left)
			break;
	}
	set_modprobe("/sbin/modprobe\n");
	printf("# %d of %d times opened, %d probes failed, %d of them under an open file\n",
	       opened, nth, unbound, failed);
	EXPECT_LT(0, failed);
	unlink(path);
	ASSERT_EQ(0, make_ready(c, &ops[0]));
}

TEST_HARNESS_MAIN
