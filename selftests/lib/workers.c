// SPDX-License-Identifier: GPL-2.0
#include "workers.h"

static bool stop_workers;

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	while (!w->line && !__atomic_load_n(&stop_workers, __ATOMIC_ACQUIRE)) {
		w->line = w->turn(w);
		w->turns++;
		if (w->line && w->may_vanish && get_status(w->fd) == -ENODEV) {
			w->line = 0;
			break;
		}
	}
	return NULL;
}

/* In a turn: what has to be so. */
#define CHECK(cond) do { if (!(cond)) return __LINE__; } while (0)

static int turn_map(struct worker *w)
{
	int slot = rand_r(&w->seed) % SLOTS, pages = 1 + rand_r(&w->seed) % SLOT_PAGES;
	uint64_t iova = w->caps->iova + slot * 2 * SLOT_PAGES * PAGE;
	int r;

	switch (rand_r(&w->seed) % 8) {
	case 0:
		r = iotlb_unmap(w->fd, 0, 0);
		break;
	case 1:
		r = iotlb_batch(w->fd, 0, true);
		break;
	case 2:
		r = iotlb_batch(w->fd, 0, false);
		break;
	case 3:
	case 4:
		r = iotlb_unmap(w->fd, iova, pages * PAGE);
		break;
	default:
		r = iotlb_map(w->fd, iova, pages * PAGE,
			      w->mem + slot * SLOT_PAGES * PAGE);
	}
	CHECK(!r || r == -EFAULT);
	return 0;
}

static int turn_status(struct worker *w)
{
	int r;

	switch (rand_r(&w->seed) % 4) {
	case 0:
		CHECK(!set_status(w->fd, 0));
		break;
	case 1:
		r = set_features(w->fd, FEATURES_MODERN);
		CHECK(!r || r == -EBUSY);
		break;
	case 2:
		r = set_status(w->fd, STATUS_FEATURES);
		CHECK(!r || r == -EINVAL);
		break;
	default:
		CHECK(get_status(w->fd) >= 0);
	}
	return 0;
}

static int turn_eventfds(struct worker *w)
{
	static const unsigned long cmds[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	unsigned long cmd = cmds[rand_r(&w->seed) % 3];
	int q = rand_r(&w->seed) % w->caps->nvqs;
	int fd = eventfd(rand_r(&w->seed) % 2, EFD_NONBLOCK), r;

	CHECK(fd >= 0);
	r = vring_file(w->fd, cmd, q, rand_r(&w->seed) % 4 ? fd : -1);
	r = r ?: vioctl(w->fd, VHOST_VDPA_SET_CONFIG_CALL, &fd);
	close(fd);
	CHECK(!r);
	return 0;
}

static int turn_queries(struct worker *w)
{
	struct vdpa_caps caps;
	char config[4];

	CHECK(!vdpa_get_caps(w->fd, &caps));
	CHECK(!memcmp(&caps, w->caps, sizeof(caps)));
	CHECK(!read_config(w->fd, 0, config, sizeof(config)));
	CHECK(vring_get(w->fd, VHOST_GET_VRING_BASE, 0) != -EFAULT);
	CHECK(w->may_vanish || vdpa_open() == -EBUSY);
	return 0;
}

static int (*const worker_turns[])(struct worker *) = {
	turn_map, turn_map, turn_status, turn_eventfds, turn_queries,
};

int workers_start(struct worker *w, int fd, const struct vdpa_caps *caps, char *mem,
		  bool may_vanish)
{
	int i, r = 0;

	__atomic_store_n(&stop_workers, false, __ATOMIC_RELEASE);
	for (i = 0; i < WORKERS; i++) {
		w[i] = (struct worker) {
			.turn = worker_turns[i],
			.fd = fd,
			.caps = caps,
			.mem = mem,
			.seed = i + 1,
			.may_vanish = may_vanish,
		};
		r |= pthread_create(&w[i].thread, NULL, worker_thread, &w[i]);
	}
	return r;
}

int workers_stop(struct worker *w)
{
	int i, line = 0;

	__atomic_store_n(&stop_workers, true, __ATOMIC_RELEASE);
	for (i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		line = line ?: w[i].line;
	}
	return line;
}

void *swap_calls(void *arg)
{
	struct swapper *s = arg;
	int q;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		for (q = s->first; q <= s->last; q++) {
			int call = eventfd(0, EFD_NONBLOCK);

			if (q < 0)
				s->failed |= vioctl(s->fd, VHOST_VDPA_SET_CONFIG_CALL, &call);
			else
				s->failed |= vring_file(s->fd, VHOST_SET_VRING_CALL, q, call);
			/* The kernel's reference is now the only one. */
			close(call);
			s->swaps++;
		}
	}
	return NULL;
}
