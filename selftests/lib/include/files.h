/* SPDX-License-Identifier: GPL-2.0 */
/* What small files and the environment say, and what is written to such files. */
#ifndef VDPA_TEST_FILES_H
#define VDPA_TEST_FILES_H

#include <stdbool.h>

/* Write text to a file: 0 or -errno. */
int write_file(const char *path, const char *text);

/* The same for a file whose path is made as by printf(). */
__attribute__((format(printf, 2, 3)))
int write_path(const char *text, const char *format, ...);

/* A KEY's number in a file of "KEY value" lines, or -1. */
long read_key(const char *file, const char *key);

/* Whether a parameter of a module is set. */
bool module_flag(const char *module, const char *name);

/* How many ranges an address space of the driver can have, or -1. */
long iotlb_limit(void);

/* The number in an environment variable, if that is set and not empty. */
long env_long(const char *name, long otherwise);

/* Shared memory in use in the whole system, in KiB. */
static inline long shmem_kib(void)
{
	return read_key("/proc/meminfo", "Shmem:");
}

/* The kernel's log from here on: a descriptor or -errno. */
int kmsg_open(void);

/* Count the new lines of the log that have a word. */
int kmsg_count(int kmsg, const char *word);

#endif
