// SPDX-License-Identifier: GPL-2.0
#include "pages.h"
#include "pair.h"

const char *const pair_names[2] = { "selftest_from", "selftest_to" };

const char *pair_mgmtdev(int i)
{
	const char *b = getenv("MGMTDEV_B");

	return i && b ? b : getenv("MGMTDEV");
}

bool pair_of(const char *kind)
{
	return pair_mgmtdev(0) && strstr(pair_mgmtdev(0), kind) && strstr(pair_mgmtdev(1), kind);
}

bool pair_alike(void)
{
	return !strcmp(pair_mgmtdev(0), pair_mgmtdev(1));
}

bool pair_has_packed(int i)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "vdpa mgmtdev show %s | grep -q RING_PACKED", pair_mgmtdev(i));
	return !mgmt_run(cmd);
}

void pair_init(struct pair *p)
{
	*p = (struct pair){ .fd = { -1, -1 } };
}

int pair_add(struct pair *p, int i, const char *attributes)
{
	int r = mgmt_add_on(pair_names[i], pair_mgmtdev(i), attributes, p->node[i]);

	return r ?: pair_reopen(p, i);
}

static void pair_close(struct pair *p, int i)
{
	if (p->fd[i] >= 0)
		close(p->fd[i]);
	p->fd[i] = -1;
}

int pair_del(struct pair *p, int i)
{
	pair_close(p, i);
	return mgmt_del(pair_names[i]);
}

void pair_remove(struct pair *p)
{
	int i;

	for (i = 0; i < 2; i++) {
		pair_close(p, i);
		mgmt_del_if_there(pair_names[i]);
	}
}

int pair_reopen(struct pair *p, int i)
{
	pair_close(p, i);
	p->fd[i] = open_owned(p->node[i]);
	return p->fd[i] < 0 ? p->fd[i] : 0;
}

int take_image(int fd, struct image *image)
{
	uint32_t i, off, len;
	int r;

	memset(image, 0, sizeof(*image));
	r = vdpa_get_caps(fd, &image->caps);
	if (r)
		return r;
	image->config_len = image->caps.config_size;
	if (image->config_len > sizeof(image->config))
		return -E2BIG;
	/* In pieces of each size, as drivers do. */
	for (off = 0; off < image->config_len && !r; off += len) {
		len = off % 7 + 1;
		if (len > image->config_len - off)
			len = image->config_len - off;
		r = read_config(fd, off, image->config + off, len);
	}
	for (i = 0; i < image->caps.nvqs && i < 16 && !r; i++) {
		image->groups[i] = vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, i);
		image->sizes[i] = vring_get(fd, VHOST_VDPA_GET_VRING_SIZE, i);
	}
	return r;
}

int pair_told(int i, char *text, size_t len)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "vdpa -j dev config show %s | sed s/%s/NAME/", pair_names[i],
		 pair_names[i]);
	mgmt_output(cmd, text, len);
	return text[0] ? 0 : -ENODATA;
}

int luggage_pack(struct luggage *l, size_t len)
{
	*l = (struct luggage){ .mem = shared_pages(len), .iova = 0x10000000, .len = len };
	return l->mem ? 0 : -ENOMEM;
}

void luggage_add_queue(struct luggage *l, struct vq *q, bool packed, size_t off)
{
	q->kick = eventfd(0, EFD_NONBLOCK);
	q->call = eventfd(0, EFD_NONBLOCK);
	vq_init(q, packed, VQ_MAX, l->mem + off, l->iova + off);
	l->base[l->n] = vq_initial_base(packed);
	l->q[l->n++] = q;
}

int luggage_leave(struct luggage *l, int fd)
{
	struct vhost_vring_state s;
	int i, r = vioctl(fd, VHOST_VDPA_SUSPEND, NULL);

	for (i = 0; i < l->n && !r; i++) {
		s = (struct vhost_vring_state){ .index = i };
		r = vioctl(fd, VHOST_GET_VRING_BASE, &s);
		l->base[i] = s.num;
	}
	return r;
}

int luggage_arrive(struct luggage *l, int fd)
{
	int i, r;

	r = iotlb_map(fd, l->iova, l->len, l->mem);
	r = r ?: negotiate_features(fd, l->features);
	for (i = 0; i < l->n && !r; i++)
		r = vq_set_up(l->q[i], fd, i, l->base[i]);
	r = r ?: set_status(fd, STATUS_RUNNING);
	/* What the guest signalled in between went to nobody, and so did calls. */
	for (i = 0; i < l->n && !r; i++) {
		signal_eventfd(l->q[i]->kick);
		signal_eventfd(l->q[i]->call);
	}
	return r;
}

void luggage_kick(struct luggage *l)
{
	int i;

	for (i = 0; i < l->n; i++)
		signal_eventfd(l->q[i]->kick);
}
