/* What the fuse_*.c take from one another. */
#ifndef ARTSTOREFS_FUSE_DEVICE_H
#define ARTSTOREFS_FUSE_DEVICE_H

#define _GNU_SOURCE
#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 30
#endif

#include <fuse_lowlevel.h>
#include <stdint.h>

/* The name under which the filesystem is asked whether a file may grow beyond its allowance. */
#define ADMISSION "artstorefs.admission"

enum admission {
	UNKNOWN_TO_US,		/* the filesystem knows */
	WITHOUT_CAPABILITY,	/* within its allowance, and the answer is ENODATA */
	BEYOND_ALLOWANCE,
};

enum admission admission_of(uint64_t inode);

/* fuse_names.c: each request and each reply comes by; whether a LOOKUP asks for what is not there. */
void names_of_request(const char *request, size_t size);
void names_of_reply(uint64_t unique, const void *reply, size_t size);
int is_surely_absent(const char *request, size_t size);

/* fuse_directory.c: each request comes by; the reply to a GETATTR, or NULL. */
struct fuse_in_header;
struct fuse_attr_out;
void directory_of_request(const struct fuse_in_header *header);
const struct fuse_attr_out *attributes_asked_for(const struct fuse_in_header *header);

#endif
