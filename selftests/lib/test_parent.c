// SPDX-License-Identifier: GPL-2.0
#include "files.h"
#include "test_parent.h"

int knob(const char *name, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	return write_path(text, "/sys/module/vdpa_test_parent/parameters/%s", name);
}

int knobs_reset(void)
{
	static const char *const names[] = {
		"style", "call_mode", "lose_table",
		"fail_set_map", "fail_set_map_after", "fail_dma_map",
		"fail_dma_map_after", "fail_dma_unmap", "fail_dma_unmap_after",
		"fail_reset", "fail_reset_after", "fail_reset_map",
		"fail_reset_map_after",
	};
	int i, r = 0;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		r = r ?: knob(names[i], 0);
	r = r ?: knob("device_id", VIRTIO_ID_CONSOLE);
	return r ?: knob("spaces", 2);
}

int parent_fresh(const char *name, int style)
{
	nl_del_if_there(name);
	return knobs_reset() ?: knob("style", style);
}

long told(const char *name, const char *key)
{
	char path[128], word[64];

	snprintf(path, sizeof(path), TEST_STATE "%s", name);
	snprintf(word, sizeof(word), "%s ", key);
	return read_key(path, word);
}

int ops_open(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), TEST_STATE "%s.ops", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ops_order(int ops, const char *what, const char *op, int n)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%s %s %d", what, op, n);

	return write(ops, text, len) == len ? 0 : -errno;
}

long told_in(const char *text, const char *key)
{
	size_t n = strlen(key);
	const char *at;

	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, n) && at[n] == ' ')
			return strtol(at + n, NULL, 10);
	}
	return -1;
}

long ops_told(int ops, const char *key, const char *op)
{
	char text[8192], word[64];
	ssize_t n = pread(ops, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -1;
	text[n] = 0;
	snprintf(word, sizeof(word), "%s%s", key, op);
	return told_in(text, word);
}

int ops_wait(int ops, const char *op, int n)
{
	int i;

	for (i = 0; i < 2000; i++) {
		if (ops_told(ops, "waiting_", op) == n)
			return 0;
		usleep(5000);
	}
	return -ETIMEDOUT;
}

int told_maps(const char *name, char *buf, size_t len)
{
	char path[128], line[256];
	size_t at = 0;
	FILE *f;

	snprintf(path, sizeof(path), TEST_STATE "%s", name);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	buf[0] = 0;
	while (fgets(line, sizeof(line), f) && at + strlen(line) < len)
		if (!strncmp(line, "map ", 4))
			at += sprintf(buf + at, "%s", line);
	fclose(f);
	return 0;
}
