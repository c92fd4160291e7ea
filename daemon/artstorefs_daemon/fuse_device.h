/* What fuse_session.c takes from fuse_device.c. */
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

#endif
