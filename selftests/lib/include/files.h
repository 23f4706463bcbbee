/* SPDX-License-Identifier: GPL-2.0 */
/* What small files and the environment say, and what is written to such files. */
#ifndef VDPA_TEST_FILES_H
#define VDPA_TEST_FILES_H

/* Write text to a file: 0 or -errno. */
int write_file(const char *path, const char *text);

/* A KEY's number in a file of "KEY value" lines, or -1. */
long read_key(const char *file, const char *key);

/* The number in an environment variable, if that is set and not empty. */
long env_long(const char *name, long otherwise);

/* Shared memory in use in the whole system, in KiB. */
static inline long shmem_kib(void)
{
	return read_key("/proc/meminfo", "Shmem:");
}

#endif
