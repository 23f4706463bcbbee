// SPDX-License-Identifier: GPL-2.0
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "netlink.h"

struct nl_request {
	struct nlmsghdr head;
	struct genlmsghdr genl;
	char attrs[256];
};

static void nl_put(struct nl_request *q, int type, const char *value)
{
	struct nlattr *a = (void *)((char *)q + NLMSG_ALIGN(q->head.nlmsg_len));

	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + strlen(value) + 1;
	strcpy((char *)a + NLA_HDRLEN, value);
	q->head.nlmsg_len = NLMSG_ALIGN(q->head.nlmsg_len) + NLA_ALIGN(a->nla_len);
}

static void nl_start(struct nl_request *q, int family, int cmd)
{
	memset(q, 0, sizeof(*q));
	q->head.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	q->head.nlmsg_type = family;
	q->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	q->genl.cmd = cmd;
	q->genl.version = 1;
}

/* Send, and read up to the acknowledgement: 0 or -errno; what came before is in buf. */
static int nl_talk(int sock, struct nl_request *q, char *buf, size_t len)
{
	ssize_t n;

	if (send(sock, q, q->head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		char msg[8192];
		struct nlmsghdr *h = (void *)msg;

		n = recv(sock, msg, sizeof(msg), 0);
		if (n < 0)
			return -errno;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
		if (buf)
			memcpy(buf, msg, n < len ? n : len);
	}
}

/* A socket for the calls below, and the number of vdpa's family. */
static int nl_open(int *family)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	char buf[8192] = {};
	struct nlmsghdr *h = (void *)buf;
	struct nl_request q;
	struct nlattr *a;
	char *end;

	if (sock < 0)
		return -errno;
	nl_start(&q, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	nl_put(&q, CTRL_ATTR_FAMILY_NAME, VDPA_GENL_NAME);
	*family = nl_talk(sock, &q, buf, sizeof(buf));
	end = buf + h->nlmsg_len;
	for (a = (void *)(buf + NLMSG_LENGTH(GENL_HDRLEN)); (char *)a < end;
	     a = (void *)((char *)a + NLA_ALIGN(a->nla_len)))
		if (a->nla_type == CTRL_ATTR_FAMILY_ID)
			*family = *(uint16_t *)((char *)a + NLA_HDRLEN);
	if (*family > 0)
		return sock;
	close(sock);
	return -ENOENT;
}

int nl_dev(int cmd, const char *name, const char *mgmtdev)
{
	struct nl_request q;
	int family, sock, r;

	sock = nl_open(&family);
	if (sock < 0)
		return sock;
	nl_start(&q, family, cmd);
	nl_put(&q, VDPA_ATTR_DEV_NAME, name);
	if (mgmtdev)
		nl_put(&q, VDPA_ATTR_MGMTDEV_DEV_NAME, mgmtdev);
	r = nl_talk(sock, &q, NULL, 0);
	close(sock);
	return r;
}

int nl_add(const char *name, const char *mgmtdev, char *node)
{
	int r = nl_dev(VDPA_CMD_DEV_NEW, name, mgmtdev);

	return r ?: node ? mgmt_find_node(name, node) : 0;
}

bool nl_has_mgmtdev(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/devices/%s", name);
	return !access(path, F_OK);
}
