// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are taken away under load, again and again (tools/suites/soak/soak.sh).
 *
 *   SOAK_ROUNDS	how many removals (default 12)
 *   SOAK_REBINDS	how many changes of driver (default 4)
 *   SOAK_PARENTS	management devices, taken in turn (default: those there are)
 *
 * What is expected of each removal: it is done within a second or a few, every
 * later call is -ENODEV, the eventfds have fired, and nothing stays pinned.
 */
#include <pthread.h>

#include "vdpa_test.h"
#include "bus.h"
#include "sync.h"
#include "test_parent.h"
#include "virtio.h"

#define NAME		"soak0"
#define SLOTS		8
#define SLOT_PAGES	8
#define PROMPT		30.0	/* seconds that a removal may take, emulated and under load */

static double now(void)
{
	return now_ns() / 1e9;
}

struct load {
	struct nic *nic;
	char *mem;
	volatile uint32_t *bell;
	unsigned int seed;
	bool stop;
	long calls[4];
	int wrong;		/* what a call failed with that it must not */
};

static bool stopped(struct load *l)
{
	return __atomic_load_n(&l->stop, __ATOMIC_ACQUIRE);
}

static void note(struct load *l, int r)
{
	if (r && r != -EFAULT && r != -ENODEV && r != -EBUSY && r != -EINVAL)
		l->wrong = r;
}

/* Frames, kicks and doorbells. */
static void *load_kicks(void *arg)
{
	struct load *l = arg;
	struct nic *nic = l->nic;

	while (!stopped(l)) {
		if ((uint16_t)(nic->q[RX].avail - nic_used(&nic->q[RX])) < nic->num)
			nic_post_rx(nic);
		if ((uint16_t)(nic->q[TX].avail - nic_used(&nic->q[TX])) < nic->num)
			nic_post_tx(nic);
		nic_kick(&nic->q[RX]);
		nic_kick(&nic->q[TX]);
		if (l->bell)
			*l->bell = l->calls[0];
		l->calls[0]++;
	}
	return NULL;
}

static void *load_messages(void *arg)
{
	struct load *l = arg;
	unsigned int seed = l->seed;

	while (!stopped(l)) {
		int slot = rand_r(&seed) % SLOTS, fd = l->nic->fd;
		uint64_t iova = l->nic->iova + 4 * NIC_MEM + slot * SLOT_PAGES * PAGE;

		switch (rand_r(&seed) % 6) {
		case 0:
			note(l, iotlb_batch(fd, 0, true));
			break;
		case 1:
			note(l, iotlb_batch(fd, 0, false));
			break;
		case 2:
			note(l, iotlb_unmap(fd, iova, SLOT_PAGES * PAGE));
			break;
		default:
			note(l, iotlb_map(fd, iova, (1 + rand_r(&seed) % SLOT_PAGES) * PAGE,
					  l->mem + slot * SLOT_PAGES * PAGE));
		}
		l->calls[1]++;
	}
	return NULL;
}

static void *load_eventfds(void *arg)
{
	struct load *l = arg;

	while (!stopped(l)) {
		int call = eventfd(0, EFD_NONBLOCK);

		note(l, vring_file(l->nic->fd, VHOST_SET_VRING_CALL, l->calls[2] % 2, call));
		close(call);
		l->calls[2]++;
	}
	return NULL;
}

static void *load_ioctls(void *arg)
{
	struct load *l = arg;
	unsigned int seed = ~l->seed;

	while (!stopped(l)) {
		char config[4];
		int r = 0, fd = l->nic->fd;

		switch (rand_r(&seed) % 8) {
		case 0:
			r = read_config(fd, 0, config, sizeof(config));
			break;
		case 1:
			r = vring_get(fd, VHOST_GET_VRING_BASE, RX);
			r = r > 0 ? 0 : r;
			break;
		case 2:
			r = vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, TX, 1);
			break;
		case 3:
			if (!(rand_r(&seed) % 8)) {
				r = set_status(fd, 0);
				r = r ?: nic_start(l->nic, 0);
			}
			break;
		default:
			r = get_status(fd);
			r = r > 0 ? 0 : r;
		}
		note(l, r);
		l->calls[3]++;
	}
	return NULL;
}

static void *(*const loads[])(void *) = {
	load_kicks, load_messages, load_eventfds, load_ioctls,
};

FIXTURE(soak) {
	const char *parents[4];
	int n;
	char *mem;
	char *nic_mem;
	long system;
};

FIXTURE_SETUP(soak)
{
	static char list[128];
	char *p;

	C_WAITS();
	snprintf(list, sizeof(list), "%s", getenv("SOAK_PARENTS") ?: "rust_vdpasim_net vdpa_test");
	for (p = strtok(list, " "); p && self->n < 4; p = strtok(NULL, " "))
		if (nl_has_mgmtdev(p))
			self->parents[self->n++] = p;
	if (!self->n)
		SKIP(return, "no parent to make devices on");
	nl_del_if_there(NAME);
	self->system = pinned_system();
	self->mem = shared_pages(SLOTS * SLOT_PAGES * PAGE);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(soak)
{
	nl_del_if_there(NAME);
	if (nl_has_mgmtdev(TEST_MGMTDEV))
		knobs_reset();
	EXPECT_UNPINNED();
}

/* Up to a running device with its memory mapped: 0, or the line that failed. */
static int start(struct nic *nic, const char *node, struct load *l, int *err, int *config)
{
	int fd = open(node, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return __LINE__;
	if (vioctl(fd, VHOST_SET_OWNER, NULL) || nic_init(nic, fd) || nic_map(nic))
		return __LINE__;
	*err = eventfd(0, EFD_NONBLOCK);
	*config = eventfd(0, EFD_NONBLOCK);
	if (vring_file(fd, VHOST_SET_VRING_ERR, TX, *err) ||
	    vioctl(fd, VHOST_VDPA_SET_CONFIG_CALL, config))
		return __LINE__;
	if (nic_start(nic, 0))
		return __LINE__;
	l->nic = nic;
	l->bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0);
	if (l->bell == MAP_FAILED)
		l->bell = NULL;
	return 0;
}

static void finish(struct nic *nic, struct load *l, int err, int config)
{
	int i;

	if (l->bell)
		munmap((void *)l->bell, PAGE);
	for (i = 0; i < 2; i++) {
		close(nic->q[i].kick);
		close(nic->q[i].call);
	}
	close(err);
	close(config);
	munmap(nic->mem, NIC_MEM);
	close(nic->fd);
}

/* One round: 0, or the line that failed. How the device goes is remove's business. */
static int round_of(int i, const char *parent, char *mem, double *longest, long *calls,
		    int (*remove)(void))
{
	struct load l = { .mem = mem, .seed = i + 1 };
	pthread_t t[ARRAY_SIZE(loads)];
	char node[NODE_LEN];
	int err, config, n, r;
	struct nic nic;
	double began;

	if (!strcmp(parent, TEST_MGMTDEV)) {
		r = knob("style", i / 2 % 2 ? STYLE_DMA_MAP : STYLE_SET_MAP);
		r = r ?: knob("period_us", 1000);
		if (r ?: knob("call_mode", CALL_HARDIRQ + i / 4 % 3))
			return __LINE__;
	}
	if (nl_add(NAME, parent, node))
		return __LINE__;
	r = start(&nic, node, &l, &err, &config);
	if (r)
		return r;
	for (n = 0; n < ARRAY_SIZE(loads); n++)
		if (pthread_create(&t[n], NULL, loads[n], &l))
			return __LINE__;
	usleep(rand_r(&l.seed) % 60000);
	began = now();
	r = remove();
	began = now() - began;
	if (began > *longest)
		*longest = began;
	if (r)
		fprintf(stderr, "# removal: %d\n", r);
	/* While they still run: an update under way gives back at once what it pinned. */
	for (n = 0; !r && pinned_self(); n++) {
		usleep(1000);
		if (n == 10000)
			r = __LINE__;
	}
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	for (n = 0; n < ARRAY_SIZE(loads); n++) {
		pthread_join(t[n], NULL);
		*calls += l.calls[n];
	}
	if (r)
		return r;
	if (l.wrong) {
		fprintf(stderr, "# a call: %d\n", l.wrong);
		return __LINE__;
	}
	if (pinned_self() || began > PROMPT)
		return __LINE__;
	if (!drain(err) || !drain(config))
		return __LINE__;
	r = check_gone(nic.fd);
	if (r)
		return r;
	finish(&nic, &l, err, config);
	return 0;
}

static int remove_by_del(void)
{
	return nl_del(NAME);
}

TEST_F_TIMEOUT(soak, removed_under_load, 7200)
{
	int rounds = env_long("SOAK_ROUNDS", 12), i, line;
	double longest = 0, began = now();
	long calls = 0;

	for (i = 0; i < rounds; i++) {
		line = round_of(i, self->parents[i % self->n], self->mem, &longest, &calls,
				remove_by_del);
		/* The line of this file at which it failed. */
		ASSERT_EQ(0, line) {
			TH_LOG("round %d, on %s", i, self->parents[i % self->n]);
		}
		if (i % 100 == 99)
			printf("# %d removals, %.0f s\n", i + 1, now() - began);
	}
	printf("# %d removals in %.0f s, the longest took %.2f s; %ld calls beside them\n",
	       rounds, now() - began, longest, calls);
}

static int remove_by_unbind(void)
{
	return bus_unbind(NAME);
}

TEST_F_TIMEOUT(soak, unbound_under_load, 7200)
{
	int rounds = env_long("SOAK_REBINDS", 4), i, line, fd;
	char node[NODE_LEN];
	double longest = 0;
	long calls = 0;

	for (i = 0; i < rounds; i++) {
		line = round_of(i, self->parents[i % self->n], self->mem, &longest, &calls,
				remove_by_unbind);
		ASSERT_EQ(0, line) {
			TH_LOG("round %d", i);
		}
		/* It comes back, and belongs to nobody. */
		ASSERT_OK(bus_bind(NAME, node));
		fd = node_open(node);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, get_status(fd));
		close(fd);
		ASSERT_OK(nl_del(NAME));
	}
	printf("# %d times unbound, the longest took %.2f s; %ld calls beside them\n",
	       rounds, longest, calls);
}

/* To virtio_vdpa, whose own driver takes the device; the file's calls fail from there on. */
static int remove_by_override(void)
{
	return bus_override(NAME);
}

TEST_F_TIMEOUT(soak, overridden_under_load, 7200)
{
	int rounds = env_long("SOAK_REBINDS", 4), i, line, fd;
	char node[NODE_LEN], target[256];
	double longest = 0;
	long calls = 0;
	ssize_t n;

	if (access(VDPA_BUS "drivers/virtio_vdpa", F_OK))
		SKIP(return, "virtio_vdpa is not loaded");
	if (strcmp(self->parents[0], "rust_vdpasim_net"))
		SKIP(return, "no simulator that virtio_vdpa can drive");
	for (i = 0; i < rounds; i++) {
		line = round_of(i, self->parents[0], self->mem, &longest, &calls,
				remove_by_override);
		ASSERT_EQ(0, line) {
			TH_LOG("round %d", i);
		}
		n = readlink("/sys/bus/vdpa/devices/" NAME "/driver", target, sizeof(target) - 1);
		ASSERT_LT(0, n);
		target[n] = 0;
		EXPECT_STREQ("virtio_vdpa", strrchr(target, '/') + 1);
		/* And back. */
		ASSERT_OK(bus_override_back(NAME, node));
		fd = node_open(node);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, get_status(fd));
		close(fd);
		ASSERT_OK(nl_del(NAME));
	}
	printf("# %d times overridden and back, the longest took %.2f s\n", rounds, longest);
}

TEST_HARNESS_MAIN
