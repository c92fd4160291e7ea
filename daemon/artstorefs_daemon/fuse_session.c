/*
 * What pyfuse3 cannot say to libfuse, said for it.
 *
 * This library is loaded, with its symbols global, before pyfuse3 is imported; the dynamic linker
 * then binds pyfuse3's call of fuse_session_new to the function below, which adds some things and
 * hands everything on to libfuse:
 *
 * 1. READDIRPLUS gets the directory's inode number as its file handle. A filesystem that answers
 *    OPENDIR with ENOSYS has its directories cached by the kernel (fs/fuse/file.c, fuse_file_open:
 *    FOPEN_CACHE_DIR is the default of "no_opendir"), and a warm `find` costs no request at all;
 *    but the handle is then 0 for every directory, and pyfuse3 passes the handle only.
 * 2. FUSE_DONT_MASK: the umask comes along instead of being applied, as a directory with a default
 *    access list needs it (acl(5)).
 * 3. Not FUSE_HANDLE_KILLPRIV: the kernel, which knows the writer's capabilities, clears the
 *    set-user-id and set-group-id bits by SETATTR. Symlink targets are cached.
 * 4. Not FUSE_CAP_SPLICE_READ: pyfuse3 copies each write into a bytes object, and from a pipe that
 *    takes twice as long.
 * 5. FALLOCATE, which pyfuse3 has no handler for, is answered by `artstorefs_fallocate`.
 * 6. GETXATTR of `security.capability` with size 0, of a file that has used up its allowance, is
 *    asked as ADMISSION: that is a writer, see fuse_device.c. Whoever wants the value has a buffer.
 */
#include "fuse_device.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

static struct fuse_lowlevel_ops original;
static struct fuse_lowlevel_ops extended;

/* Set by fuse_library.py. Runs in the thread that holds the interpreter; returns an errno or 0. */
int (*artstorefs_fallocate)(uint64_t handle, int mode, int64_t offset, int64_t length);

static void fallocate_file(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset,
			   off_t length, struct fuse_file_info *file)
{
	(void)inode;
	fuse_reply_err(request, artstorefs_fallocate
				? artstorefs_fallocate(file->fh, mode, offset, length)
				: ENOSYS);
}

static void init(void *userdata, struct fuse_conn_info *connection)
{
	original.init(userdata, connection);
	connection->want |= connection->capable & (FUSE_CAP_DONT_MASK | FUSE_CAP_CACHE_SYMLINKS);
	connection->want &= ~(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_SPLICE_READ);
}

static void readdirplus(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
			struct fuse_file_info *file)
{
	file->fh = inode;
	original.readdirplus(request, inode, size, offset, file);
}

static void getxattr(fuse_req_t request, fuse_ino_t inode, const char *name, size_t size)
{
	if (size == 0 && strcmp(name, "security.capability") == 0 &&
	    admission_of(inode) == BEYOND_ALLOWANCE)
		name = ADMISSION;
	original.getxattr(request, inode, name, size);
}

static const struct fuse_lowlevel_ops *extend(const struct fuse_lowlevel_ops *operations,
					      size_t operations_size)
{
	if (operations_size > sizeof original)
		operations_size = sizeof original;
	memset(&original, 0, sizeof original);
	memcpy(&original, operations, operations_size);
	extended = original;
	extended.init = init;
	extended.readdirplus = readdirplus;
	extended.fallocate = fallocate_file;
	extended.getxattr = getxattr;
	return &extended;
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

#undef fuse_session_new
typedef struct fuse_session *(*session_new)(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, struct libfuse_version *, void *);

struct fuse_session *fuse_session_new_versioned(struct fuse_args *arguments,
						const struct fuse_lowlevel_ops *operations,
						size_t operations_size,
						struct libfuse_version *version, void *userdata)
{
	session_new next = (session_new)dlsym(RTLD_NEXT, "fuse_session_new_versioned");

	return next(arguments, extend(operations, operations_size), sizeof extended, version,
		    userdata);
}

#else

typedef struct fuse_session *(*session_new)(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, void *);

struct fuse_session *fuse_session_new(struct fuse_args *arguments,
				      const struct fuse_lowlevel_ops *operations,
				      size_t operations_size, void *userdata)
{
	session_new next = (session_new)dlsym(RTLD_NEXT, "fuse_session_new");

	return next(arguments, extend(operations, operations_size), sizeof extended, userdata);
}

#endif
