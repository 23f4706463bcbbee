// SPDX-License-Identifier: GPL-2.0
#include "files.h"
#include "vduse.h"

#define VDUSE_REGIONS	32
#define VDUSE_HELD	64

struct vduse_region {
	uint32_t asid;
	uint64_t start, last;
	char *mem;
};

struct vduse_daemon {
	struct vduse *v;
	struct vduse_shared *s;
	int fd;
	struct vduse_region regions[VDUSE_REGIONS];
	struct {
		int kick;
		uint32_t num;
		uint64_t desc, avail, used;
		uint16_t last_avail;
	} q[VDUSE_QUEUES];
	struct vduse_dev_request held[VDUSE_HELD];
};

static void vduse_answer(struct vduse_daemon *d, const struct vduse_dev_request *req, int result)
{
	struct vduse_dev_response resp = { .request_id = req->request_id, .result = result };

	if (req->type == VDUSE_GET_VQ_STATE) {
		resp.vq_state.index = req->vq_state.index;
		resp.vq_state.split.avail_index =
			d->q[req->vq_state.index % VDUSE_QUEUES].last_avail;
	}
	/* Who asked may have given up. */
	if (write(d->fd, &resp, sizeof(resp)) != sizeof(resp) && errno != ENOENT)
		_exit(3);
}

static void vduse_forget_maps(struct vduse_daemon *d, uint32_t asid)
{
	int i;

	for (i = 0; i < VDUSE_REGIONS; i++) {
		struct vduse_region *r = &d->regions[i];

		if (r->mem && r->asid == asid) {
			munmap(r->mem, r->last - r->start + 1);
			r->mem = NULL;
		}
	}
}

/* The file behind an address: a descriptor, with e filled in, or -errno. */
static int vduse_lookup(struct vduse_daemon *d, uint32_t asid, uint64_t iova,
			struct vduse_iotlb_entry_v2 *e)
{
	int fd;

	memset(e, 0, sizeof(*e));
	e->start = iova;
	e->last = iova;
	e->asid = asid;
	/* The first part of the second struct is the first struct. */
	fd = ioctl(d->fd, d->v->version ? VDUSE_IOTLB_GET_FD2 : VDUSE_IOTLB_GET_FD, e);
	return fd < 0 ? -errno : fd;
}

static void *vduse_translate(struct vduse_daemon *d, uint32_t asid, uint64_t iova, uint64_t len)
{
	struct vduse_iotlb_entry_v2 e;
	struct vduse_region *r, *room = NULL;
	int fd;

	for (r = d->regions; r < d->regions + VDUSE_REGIONS; r++) {
		if (!r->mem)
			room = r;
		else if (r->asid == asid && iova >= r->start && iova + len - 1 <= r->last)
			return r->mem + (iova - r->start);
	}
	fd = vduse_lookup(d, asid, iova, &e);
	if (fd < 0 || !room || iova + len - 1 > e.last) {
		d->s->faults++;
		return NULL;
	}
	room->asid = asid;
	room->start = e.start;
	room->last = e.last;
	room->mem = mmap(NULL, e.last - e.start + 1,
			 (e.perm & VDUSE_ACCESS_RO ? PROT_READ : 0) |
			 (e.perm & VDUSE_ACCESS_WO ? PROT_WRITE : 0), MAP_SHARED, fd, e.offset);
	close(fd);
	if (room->mem == MAP_FAILED) {
		room->mem = NULL;
		d->s->faults++;
		return NULL;
	}
	return room->mem + (iova - room->start);
}

static void vduse_stop_queue(struct vduse_daemon *d, int i)
{
	if (d->q[i].kick >= 0)
		close(d->q[i].kick);
	d->q[i].kick = -1;
	STORE(d->s->started[i], false);
}

/* Serve a queue from now on, if the driver has set it up and enabled it. */
static void vduse_start_queue(struct vduse_daemon *d, int i)
{
	struct vduse_vq_info info = { .index = i };
	struct vduse_vq_eventfd kick = { .index = i };
	struct vring_used *used;

	if (ioctl(d->fd, VDUSE_VQ_GET_INFO, &info) || !info.ready || !info.num)
		return;
	used = vduse_translate(d, d->s->asid[i % d->v->ngroups], info.device_addr, 8);
	if (!used)
		return;
	d->q[i].num = info.num;
	d->q[i].desc = info.desc_addr;
	d->q[i].avail = info.driver_addr;
	d->q[i].used = info.device_addr;
	/* Whoever served it before did so in order. */
	d->q[i].last_avail = used->idx;
	d->q[i].kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	kick.fd = d->q[i].kick;
	ioctl(d->fd, VDUSE_VQ_SETUP_KICKFD, &kick);
	/* There may be buffers already. */
	signal_eventfd(d->q[i].kick);
	STORE(d->s->started[i], true);
}

static void vduse_serve_queue(struct vduse_daemon *d, int i)
{
	uint32_t asid = d->s->asid[i % d->v->ngroups], index = i;
	uint32_t num = d->q[i].num, done = 0;
	struct vring_desc *desc = vduse_translate(d, asid, d->q[i].desc, num * 16);
	struct vring_avail *avail = vduse_translate(d, asid, d->q[i].avail, 4 + 2 * num);
	struct vring_used *used = vduse_translate(d, asid, d->q[i].used, 4 + 8 * num);

	if (!desc || !avail || !used)
		return;
	while (d->q[i].last_avail != __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE)) {
		uint16_t head = avail->ring[d->q[i].last_avail % num] % num;
		struct vring_desc *out = &desc[head], *in = &desc[out->next % num];
		const unsigned char *from = vduse_translate(d, asid, out->addr, out->len);
		unsigned char *to = vduse_translate(d, asid, in->addr, in->len);
		uint32_t n;

		if (!from || !to)
			return;
		for (n = 0; n < out->len && n < in->len; n++)
			to[n] = ~from[n];
		used->ring[used->idx % num] = (struct vring_used_elem){ .id = head, .len = n };
		__atomic_store_n(&used->idx, used->idx + 1, __ATOMIC_RELEASE);
		d->q[i].last_avail++;
		STORE(d->s->served[i], d->s->served[i] + 1);
		done++;
	}
	if (done)
		ioctl(d->fd, VDUSE_VQ_INJECT_IRQ, &index);
}

/* What an answered request changes. */
static void vduse_effect(struct vduse_daemon *d, const struct vduse_dev_request *req)
{
	int i;

	switch (req->type) {
	case VDUSE_SET_STATUS:
		if (!req->s.status) {
			for (i = 0; i < VDUSE_QUEUES; i++) {
				vduse_stop_queue(d, i);
				d->s->vq_ready[i] = false;
			}
			d->s->suspended = false;
		}
		STORE(d->s->status, req->s.status);
		break;
	case VDUSE_UPDATE_IOTLB:
		vduse_forget_maps(d, d->v->version ? req->iova_v2.asid : 0);
		break;
	case VDUSE_SET_VQ_GROUP_ASID:
		if (req->vq_group_asid.group < VDUSE_GROUPS)
			STORE(d->s->asid[req->vq_group_asid.group], req->vq_group_asid.asid);
		break;
	case VDUSE_SET_VQ_READY:
		/* Number and readiness. */
		if (req->padding[0] < VDUSE_QUEUES)
			STORE(d->s->vq_ready[req->padding[0]], req->padding[1]);
		break;
	case VDUSE_SUSPEND:
		STORE(d->s->suspended, true);
		break;
	}
}

static void vduse_request(struct vduse_daemon *d)
{
	struct vduse_dev_request req;
	struct vduse_plan plan = {};
	int i;

	if (read(d->fd, &req, sizeof(req)) != sizeof(req))
		return;
	if (req.type < VDUSE_TYPES) {
		struct vduse_plan *p = &d->s->plan[req.type];

		plan = *p;
		if (plan.status && req.type == VDUSE_SET_STATUS && !(req.s.status & plan.status)) {
			plan.act = VDUSE_ANSWER;
		} else if (plan.after) {
			p->after--;
			plan.act = VDUSE_ANSWER;
		} else if (plan.times && !--p->times) {
			/* The last one. */
			p->act = VDUSE_ANSWER;
		}
		__atomic_add_fetch(&d->s->seen[req.type], 1, __ATOMIC_RELEASE);
	}
	switch (plan.act) {
	case VDUSE_REFUSE:
		vduse_answer(d, &req, VDUSE_REQ_RESULT_FAILED);
		return;
	case VDUSE_HOLD:
		for (i = 0; i < VDUSE_HELD && d->held[i].reserved[0]; i++)
			;
		if (i == VDUSE_HELD)
			_exit(4);
		d->held[i] = req;
		/* Marks the slot as used. */
		d->held[i].reserved[0] = 1;
		STORE(d->s->held, d->s->held + 1);
		return;
	case VDUSE_DELAY:
		usleep(plan.ms * 1000);
		break;
	case VDUSE_STOP:
		raise(SIGSTOP);
		break;
	case VDUSE_DIE:
		raise(SIGKILL);
		break;
	case VDUSE_ANSWER:
		break;
	}
	vduse_effect(d, &req);
	vduse_answer(d, &req, VDUSE_REQ_RESULT_OK);
}

static void vduse_do_release(struct vduse_daemon *d)
{
	int how = LOAD(d->s->release), i;

	if (!how)
		return;
	STORE(d->s->release, 0);
	for (i = 0; i < VDUSE_HELD; i++) {
		if (!d->held[i].reserved[0])
			continue;
		d->held[i].reserved[0] = 0;
		if (how == 1)
			vduse_effect(d, &d->held[i]);
		vduse_answer(d, &d->held[i], how == 1 ? VDUSE_REQ_RESULT_OK :
			     VDUSE_REQ_RESULT_FAILED);
	}
	STORE(d->s->held, 0);
}

static void vduse_do_query(struct vduse_daemon *d)
{
	struct vduse_iotlb_entry_v2 e;
	int fd;

	if (LOAD(d->s->query.state) != 1)
		return;
	fd = vduse_lookup(d, d->s->query.asid, d->s->query.iova, &e);
	if (fd >= 0)
		close(fd);
	d->s->query.result = fd >= 0 ? 1 : fd == -EINVAL ? 0 : fd;
	STORE(d->s->query.state, 2);
}

/* The process. A device that others served before is adopted. */
static void vduse_daemon_main(struct vduse *v, bool adopt)
{
	struct vduse_daemon d = { .v = v, .s = v->s };
	char path[300];
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Above all not the device under test. */
	close_range(3, v->wake - 1, 0);
	close_range(v->wake + 1, ~0U, 0);
	snprintf(path, sizeof(path), "/dev/vduse/%s", v->name);
	/* A daemon that was killed may not have closed it yet. */
	for (i = 0; i < 500; i++) {
		d.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (d.fd >= 0 || (errno != EBUSY && errno != ENOENT))
			break;
		usleep(10000);
	}
	if (d.fd < 0) {
		STORE(v->s->ready, -errno);
		_exit(1);
	}
	for (i = 0; i < VDUSE_QUEUES; i++)
		d.q[i].kick = -1;
	for (i = 0; !adopt && i < v->nvqs; i++) {
		struct vduse_vq_config c = {
			.index = i, .max_size = VQ_MAX, .group = i % v->ngroups,
		};

		if (ioctl(d.fd, VDUSE_VQ_SETUP, &c)) {
			STORE(v->s->ready, -errno);
			_exit(1);
		}
	}
	v->s->held = 0;
	STORE(v->s->ready, 1);
	for (;;) {
		struct pollfd p[2 + VDUSE_QUEUES] = {
			{ .fd = v->wake, .events = POLLIN },
			{ .fd = d.fd, .events = POLLIN },
		};
		uint64_t n;

		for (i = 0; i < VDUSE_QUEUES; i++)
			p[2 + i] = (struct pollfd){ .fd = d.q[i].kick, .events = POLLIN };
		poll(p, 2 + VDUSE_QUEUES, 20);
		/* Broken, so poll() would not wait any more. */
		if (p[1].revents & POLLERR)
			usleep(10000);
		if (p[0].revents && read(v->wake, &n, sizeof(n)) < 0 && errno != EAGAIN)
			_exit(5);
		if (p[1].revents & POLLIN)
			vduse_request(&d);
		vduse_do_release(&d);
		vduse_do_query(&d);
		for (i = 0; i < v->nvqs; i++) {
			if (p[2 + i].fd >= 0 && p[2 + i].fd == d.q[i].kick && p[2 + i].revents &&
			    read(d.q[i].kick, &n, sizeof(n)) == sizeof(n) && !d.s->suspended)
				vduse_serve_queue(&d, i);
			if (d.q[i].kick < 0 && (d.s->status & VIRTIO_CONFIG_S_DRIVER_OK))
				vduse_start_queue(&d, i);
		}
	}
}

/*
 * For tests
 */

int vduse_start(struct vduse *v, bool adopt)
{
	int status;

	STORE(v->s->ready, 0);
	v->pid = fork();
	if (v->pid < 0)
		return -errno;
	if (!v->pid)
		vduse_daemon_main(v, adopt);
	v->s->pid = v->pid;
	WAIT_FOR(LOAD(v->s->ready), 10000);
	if (LOAD(v->s->ready) == 1)
		return 0;
	kill(v->pid, SIGKILL);
	waitpid(v->pid, &status, 0);
	v->pid = 0;
	return LOAD(v->s->ready) ?: -ETIMEDOUT;
}

void vduse_kill(struct vduse *v)
{
	int status;

	if (!v->pid)
		return;
	kill(v->pid, SIGKILL);
	waitpid(v->pid, &status, 0);
	v->pid = 0;
}

bool vduse_stop(struct vduse *v)
{
	int status;

	kill(v->pid, SIGSTOP);
	return waitpid(v->pid, &status, WUNTRACED) == v->pid && WIFSTOPPED(status);
}

void vduse_plan(struct vduse *v, int type, struct vduse_plan plan)
{
	v->s->plan[type] = plan;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void vduse_plan_all(struct vduse *v, enum vduse_act act)
{
	int i;

	for (i = 0; i < VDUSE_TYPES; i++)
		vduse_plan(v, i, (struct vduse_plan){ .act = act });
}

void vduse_release(struct vduse *v, bool ok)
{
	STORE(v->s->release, ok ? 1 : 2);
	signal_eventfd(v->wake);
}

int vduse_mapped(struct vduse *v, uint32_t asid, uint64_t iova)
{
	v->s->query.asid = asid;
	v->s->query.iova = iova;
	STORE(v->s->query.state, 1);
	signal_eventfd(v->wake);
	if (!WAIT_FOR(LOAD(v->s->query.state) == 2, 10000))
		return -ETIMEDOUT;
	return v->s->query.result;
}

int vduse_seen_all(struct vduse *v)
{
	int i, n = 0;

	for (i = 0; i < VDUSE_TYPES; i++)
		n += vduse_seen(v, i);
	return n;
}

int vduse_set_timeout(struct vduse *v, int seconds)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", seconds);
	return write_path(text, "/sys/class/vduse/%s/msg_timeout", v->name);
}

bool vduse_there(void)
{
	if (access(VDUSE_CONTROL, R_OK | W_OK))
		mgmt_run("modprobe vduse 2>/dev/null");
	return !access(VDUSE_CONTROL, R_OK | W_OK);
}

uint64_t vduse_offered(void)
{
	int fd = open(VDUSE_CONTROL, O_RDWR | O_CLOEXEC);
	uint64_t features = 0;

	if (fd < 0 || ioctl(fd, VDUSE_GET_FEATURES, &features))
		features = 0;
	if (fd >= 0)
		close(fd);
	return features;
}

int vduse_destroy(struct vduse *v)
{
	char name[VDUSE_NAME_MAX] = {};
	int r = 0;

	if (v->control <= 0)
		return 0;
	strcpy(name, v->name);
	/* A daemon that was killed may not have closed it yet. */
	if (!WAIT_FOR(!ioctl(v->control, VDUSE_DESTROY_DEV, name) || errno != EBUSY, 5000))
		r = -EBUSY;
	close(v->control);
	v->control = -1;
	return r;
}

int vduse_create(struct vduse *v)
{
	struct vduse_dev_config config = {
		.device_id = VIRTIO_ID_BLOCK,
		.features = FEATURES_MODERN,
		.vq_num = v->nvqs,
		.vq_align = PAGE,
		.config_size = 64,
	};
	char buf[sizeof(config) + 64] = {};
	uint64_t version = v->version;
	int r;

	v->s = mmap(NULL, sizeof(*v->s), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	v->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	v->control = open(VDUSE_CONTROL, O_RDWR | O_CLOEXEC);
	if (v->s == MAP_FAILED || v->wake < 0 || v->control < 0)
		return -errno;
	if (ioctl(v->control, VDUSE_SET_API_VERSION, &version))
		return -errno;
	if (v->vduse_features && ioctl(v->control, VDUSE_SET_FEATURES, &v->vduse_features))
		return -errno;
	strcpy(config.name, v->name);
	if (v->version) {
		config.ngroups = v->ngroups;
		config.nas = v->nas;
	}
	memcpy(buf, &config, sizeof(config));
	if (ioctl(v->control, VDUSE_CREATE_DEV, buf))
		return -errno;
	r = vduse_start(v, false);
	return r ?: nl_add(v->name, VDUSE_MGMTDEV, v->node);
}
