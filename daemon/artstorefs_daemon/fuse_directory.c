/*
 * The attributes of the directory in which a file was made last: GETATTR after CREATE.
 *
 * A file that was made changes the times of its directory, so the kernel asks for them before it
 * looks up the next one there. operations.py leaves them here when it has made a file; they hold
 * until a request comes by that may change a directory, or something else has and the kernel is told
 * of it. No handler that changes a directory suspends, so what it changes is done when the next
 * request is read.
 *
 * Everything here runs in the thread that holds the interpreter.
 */
#include "fuse_device.h"

#include <linux/fuse.h>
#include <stddef.h>

/* Written by fuse_library.py; an inode number of 0 stands for none. */
struct fuse_attr_out artstorefs_directory;

void directory_of_request(const struct fuse_in_header *header)
{
	switch (header->opcode) {
	case FUSE_LOOKUP:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_GETATTR:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_READLINK:
	case FUSE_STATFS:
	case FUSE_OPEN:
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
		return;
	default:
		artstorefs_directory.attr.ino = 0;
	}
}

const struct fuse_attr_out *attributes_asked_for(const struct fuse_in_header *header)
{
	if (header->opcode != FUSE_GETATTR || header->nodeid != artstorefs_directory.attr.ino)
		return NULL;
	return &artstorefs_directory;
}
