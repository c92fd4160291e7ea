/*
 * What passes over /dev/fuse, where libfuse 3.14 and pyfuse3 know less than the kernel does.
 *
 * libfuse lets the reading and writing of the device be replaced (fuse_session_custom_io). Here:
 *
 * 1. INIT. If the kernel offers FUSE_PASSTHROUGH it is accepted in the reply (Linux 6.9,
 *    Documentation/filesystems/fuse-passthrough.rst): an open file can then be bound to a file of
 *    ours, its backing file, and reads, writes and mappings of it never come here.
 *    The kernel asks once for each connection. A daemon that goes on with the connection of another
 *    (UPGRADE.md) has libfuse asked by us, with what the kernel has asked; nobody gets the reply.
 * 2. OPEN and CREATE. A reply for which `artstorefs_reply_backing` is set says which backing file.
 * 3. Admission. Before each write(2) to a file that is not known to be without set-id bits the
 *    kernel asks for `security.capability` (fs/inode.c, file_remove_privs): also before those that
 *    go past us. It is the one moment at which a writer can be held, so this is where the spool's
 *    limit is kept: within its allowance, a file in the table below is answered at once, without the
 *    interpreter; beyond it the question goes on under the name ADMISSION, see content.py.
 * 4. LOOKUP of what is surely not there is answered at once too, see fuse_names.c, and GETATTR of a
 *    directory in which a file was made, see fuse_directory.c.
 *
 * Everything here runs in the thread that holds the interpreter.
 */
#include "fuse_device.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* linux/fuse.h of Linux 6.9; the headers that this is built with may be older. */
#define FLAG_INIT_EXTENDED (1u << 30)
#define FLAG2_PASSTHROUGH (1u << 5)	/* bit 37 of both words */
#define OPENED_PASSTHROUGH (1u << 7)
#define STACK_DEPTH 1			/* backing files lie on an ordinary filesystem */

struct init_out_6_9 {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth, unused[6];
};

#define CAPABILITY "security.capability"

#define ABSENT_S 86400		/* CACHE_S of operations.py */

/* After a request that was answered here; see fuse_loop.py. */
#define STREAK 16
#define SPIN_NS 30000

/* Set by fuse_library.py right before the handler of OPEN or CREATE returns; taken by its reply. */
int32_t artstorefs_reply_backing;

/* The device, and whether the kernel has passthrough; -1 and 0 before the mount. */
int artstorefs_device = -1;
int artstorefs_has_passthrough;

static struct fuse_session *served;
static uint64_t init_request;

/* INIT as the kernel has sent it to the daemon that mounted; see fuse_library.py. Repeated: the
 * session has yet to be told what the kernel was told then. */
#define INIT_BYTES 256
unsigned char artstorefs_init[INIT_BYTES];
uint32_t artstorefs_init_size;
int artstorefs_repeats_init;
static int init_is_repeated;		/* by the request that is under way */

/* ------------------------------------------------------------------------------- admission */

/* Open addressing with linear probing; inode numbers are never 0. Grows at half full. */
struct admitted {
	uint64_t inode;
	int descriptor;		/* the spool file; -1: each write passes through our hands anyway */
	int without_capability;
	int64_t allowed_bytes;	/* of disk space */
};

static struct admitted *table;
static size_t slots, used;

static struct admitted *find(uint64_t inode)
{
	size_t at;

	if (slots == 0)
		return NULL;
	for (at = inode & (slots - 1); table[at].inode; at = (at + 1) & (slots - 1))
		if (table[at].inode == inode)
			return &table[at];
	return &table[at];
}

static int grow(void)
{
	struct admitted *old = table;
	size_t count = slots, i;

	slots = count ? 2 * count : 256;
	table = calloc(slots, sizeof *table);
	if (table == NULL) {
		table = old;
		slots = count;
		return -1;
	}
	for (i = 0; i < count; i++)
		if (old[i].inode)
			*find(old[i].inode) = old[i];
	free(old);
	return 0;
}

int artstorefs_admit(uint64_t inode, int descriptor, int without_capability,
		     int64_t allowed_bytes)
{
	struct admitted *entry;

	if (2 * used >= slots && grow() != 0)
		return ENOMEM;
	entry = find(inode);
	used += entry->inode == 0;
	*entry = (struct admitted){ inode, descriptor, without_capability, allowed_bytes };
	return 0;
}

void artstorefs_dismiss(uint64_t inode)
{
	struct admitted *entry = find(inode);
	size_t gap, at;

	if (entry == NULL || entry->inode == 0)
		return;
	used--;
	/* Those that follow and may not be reached over a gap move up. */
	gap = (size_t)(entry - table);
	for (at = (gap + 1) & (slots - 1); table[at].inode; at = (at + 1) & (slots - 1)) {
		size_t home = table[at].inode & (slots - 1);

		if (((at - home) & (slots - 1)) >= ((at - gap) & (slots - 1))) {
			table[gap] = table[at];
			gap = at;
		}
	}
	table[gap].inode = 0;
}

enum admission admission_of(uint64_t inode)
{
	struct admitted *entry = find(inode);
	struct stat status;

	if (entry == NULL || entry->inode == 0)
		return UNKNOWN_TO_US;
	if (entry->descriptor >= 0 && (fstat(entry->descriptor, &status) != 0 ||
				       status.st_blocks * 512 > entry->allowed_bytes))
		return BEYOND_ALLOWANCE;
	return entry->without_capability ? WITHOUT_CAPABILITY : UNKNOWN_TO_US;
}

/* Whether the request asks for a capability that nobody has. */
static int asks_in_vain(const char *request, size_t size)
{
	const struct fuse_in_header *header = (const void *)request;
	const size_t start = sizeof *header + sizeof(struct fuse_getxattr_in);

	return header->opcode == FUSE_GETXATTR && size == start + sizeof CAPABILITY &&
	       memcmp(request + start, CAPABILITY, sizeof CAPABILITY) == 0 &&
	       admission_of(header->nodeid) == WITHOUT_CAPABILITY;
}

/* ---------------------------------------------------------------------------------- device */

static void read_init(const char *request, size_t size)
{
	const struct fuse_in_header *header = (const void *)request;
	const struct fuse_init_in *init = (const void *)(request + sizeof *header);

	init_request = header->unique;
	if (!init_is_repeated && size <= INIT_BYTES) {
		memcpy(artstorefs_init, request, size);
		artstorefs_init_size = (uint32_t)size;
	}
	artstorefs_has_passthrough =
		size >= sizeof *header + offsetof(struct fuse_init_in, flags2) + sizeof init->flags2 &&
		(init->flags & FLAG_INIT_EXTENDED) && (init->flags2 & FLAG2_PASSTHROUGH);
}

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether there is a request, after looking for one for `spin_ns`. See fuse_loop.py. */
int artstorefs_poll(int device, int64_t spin_ns)
{
	struct pollfd polled = { .fd = device, .events = POLLIN };
	int64_t end_ns;

	if (artstorefs_repeats_init)
		return 1;
	if (poll(&polled, 1, 0) != 0)
		return 1;
	end_ns = monotonic_ns() + spin_ns;
	do {
		sched_yield();	/* whoever would ask us may have been put on this processor */
		if (poll(&polled, 1, 0) != 0)
			return 1;
	} while (monotonic_ns() < end_ns);
	return 0;
}

/* Answer what needs no interpreter; whether that was it. */
static int answered(int device, const char *request, size_t size)
{
	const struct fuse_in_header *header = (const void *)request;
	const struct fuse_attr_out *attributes;
	struct {
		struct fuse_out_header header;
		union {
			struct fuse_entry_out entry;
			struct fuse_attr_out attributes;
		};
	} reply = { .header = { .len = sizeof reply.header, .unique = header->unique } };

	if (asks_in_vain(request, size)) {
		reply.header.error = -ENODATA;
	} else if (is_surely_absent(request, size)) {
		reply.header.len += sizeof reply.entry;
		reply.entry.entry_valid = ABSENT_S;	/* without an inode: remember that it is absent */
	} else if ((attributes = attributes_asked_for(header)) != NULL) {
		reply.header.len += sizeof reply.attributes;
		reply.attributes = *attributes;
	} else {
		return 0;
	}
	/* Who asked and was killed meanwhile is ENOENT, and nobody waits for this any more. */
	return write(device, &reply, reply.header.len) == reply.header.len || errno == ENOENT;
}

/* The next request that is for the filesystem. What comes right after one that was answered here
 * is read here too: the question whether a name is there, and the order to make it, for example. */
static ssize_t read_request(int device, void *buffer, size_t size, void *userdata)
{
	const struct fuse_in_header *header = buffer;
	int streak;

	(void)userdata;
	if (artstorefs_repeats_init && artstorefs_init_size <= size) {
		artstorefs_repeats_init = 0;
		memcpy(buffer, artstorefs_init, artstorefs_init_size);
		init_is_repeated = 1;
		read_init(buffer, artstorefs_init_size);
		return artstorefs_init_size;
	}
	for (streak = 0; streak < STREAK; streak++) {
		ssize_t length;

		/* libfuse drops what it has read by then, and a program would wait for it for ever. */
		if (fuse_session_exited(served))
			break;
		if (streak && !artstorefs_poll(device, SPIN_NS))
			break;
		length = read(device, buffer, size);
		if (length < (ssize_t)sizeof *header) {
			if (streak && length < 0 && errno == EAGAIN)
				break;
			return length;
		}
		if (header->opcode == FUSE_INIT)
			read_init(buffer, (size_t)length);
		names_of_request(buffer, (size_t)length);
		directory_of_request(header);
		if (!answered(device, buffer, (size_t)length))
			return length;
	}
	errno = EINTR;	/* pyfuse3 waits for the next one */
	return -1;
}

static void accept_passthrough(struct iovec *part, int count)
{
	struct init_out_6_9 *out;

	if (!artstorefs_has_passthrough)
		return;
	if (count != 2 || part[1].iov_len < sizeof *out) {
		artstorefs_has_passthrough = 0;
		return;
	}
	out = part[1].iov_base;
	out->flags |= FLAG_INIT_EXTENDED;
	out->flags2 |= FLAG2_PASSTHROUGH;
	out->max_stack_depth = STACK_DEPTH;
}

/* fuse_open_out is the last of what replies to OPEN and CREATE hold. */
static void name_backing(struct iovec *last, int32_t backing)
{
	struct fuse_open_out out;
	char *at = (char *)last->iov_base + last->iov_len - sizeof out;

	memcpy(&out, at, sizeof out);
	out.open_flags |= OPENED_PASSTHROUGH;
	memcpy((char *)&out + offsetof(struct fuse_open_out, open_flags) + sizeof out.open_flags,
	       &backing, sizeof backing);
	memcpy(at, &out, sizeof out);
}

static int32_t backing_of_this_reply;

static ssize_t write_reply(int device, struct iovec *part, int count, void *userdata)
{
	const struct fuse_out_header *header = part[0].iov_base;

	(void)userdata;
	if (header->error == 0 && init_request && header->unique == init_request) {
		accept_passthrough(part, count);
		init_request = 0;
		if (init_is_repeated) {
			init_is_repeated = 0;
			return header->len;
		}
	} else if (backing_of_this_reply && header->error == 0) {
		name_backing(&part[count - 1], backing_of_this_reply);
	}
	names_of_reply(header->unique, count > 1 ? part[1].iov_base : NULL,
		       count > 1 ? part[1].iov_len : 0);
	return writev(device, part, count);
}

static int reply_with_backing(int (*send)(void *), void *arguments)
{
	int result;

	backing_of_this_reply = artstorefs_reply_backing;
	artstorefs_reply_backing = 0;
	result = send(arguments);
	backing_of_this_reply = 0;
	return result;
}

struct reply {
	fuse_req_t request;
	const struct fuse_entry_param *entry;
	const struct fuse_file_info *file;
};

static int send_open(void *arguments)
{
	static int (*next)(fuse_req_t, const struct fuse_file_info *);
	struct reply *reply = arguments;

	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "fuse_reply_open");
	return next(reply->request, reply->file);
}

static int send_create(void *arguments)
{
	static int (*next)(fuse_req_t, const struct fuse_entry_param *,
			   const struct fuse_file_info *);
	struct reply *reply = arguments;

	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "fuse_reply_create");
	return next(reply->request, reply->entry, reply->file);
}

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *file)
{
	struct reply reply = { request, NULL, file };

	return reply_with_backing(send_open, &reply);
}

int fuse_reply_create(fuse_req_t request, const struct fuse_entry_param *entry,
		      const struct fuse_file_info *file)
{
	struct reply reply = { request, entry, file };

	return reply_with_backing(send_create, &reply);
}

int fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	static const struct fuse_custom_io device = { .read = read_request, .writev = write_reply };
	int (*next)(struct fuse_session *, const char *);
	int result;

	*(void **)&next = dlsym(RTLD_NEXT, "fuse_session_mount");
	result = next(session, mountpoint);
	if (result != 0)
		return result;
	served = session;
	artstorefs_device = fuse_session_fd(session);
	return fuse_session_custom_io(session, &device, artstorefs_device);
}
