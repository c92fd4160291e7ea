/*
 * Names that are surely not there: LOOKUP before CREATE, without the interpreter.
 *
 * Before open(2) makes a file, and before mkdir(2) and rename(2), the kernel asks whether the name
 * is there. Of a directory that was made on this mount every name that it can have has come by here
 * in a request, so a name that has not is not there. What is kept is 64 bits of each name and never
 * forgotten singly: a name that was removed, or two names with the same bits, only cost a question.
 *
 * The request counts, not what became of it, and it counts when it is read: before anybody can have
 * seen its result. Inode numbers are never used twice (state/changes.py), so neither is a directory.
 * Nothing but requests gives names to directories made on the mount.
 *
 * Everything here runs in the thread that holds the interpreter.
 */
#include "fuse_device.h"

#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT (1u << 19)	/* of names and directories: a table of at most 8 MiB */

struct set {
	uint64_t *table;	/* open addressing, linear probing; 0 is a free slot */
	size_t slots, used;
};

static struct set names, directories;
static uint64_t making_directory;	/* the MKDIR that has no reply yet */

static int is_in(const struct set *set, uint64_t value)
{
	size_t at;

	if (set->slots == 0)
		return 0;
	for (at = value & (set->slots - 1); set->table[at]; at = (at + 1) & (set->slots - 1))
		if (set->table[at] == value)
			return 1;
	return 0;
}

static int put(struct set *set, uint64_t value)
{
	size_t at;

	if (2 * set->used >= set->slots) {
		struct set larger = { .slots = set->slots ? 2 * set->slots : 256 };

		larger.table = calloc(larger.slots, sizeof *larger.table);
		if (larger.table == NULL)
			return -1;
		for (at = 0; at < set->slots; at++)
			if (set->table[at])
				put(&larger, set->table[at]);
		free(set->table);
		*set = larger;
	}
	for (at = value & (set->slots - 1); set->table[at]; at = (at + 1) & (set->slots - 1))
		if (set->table[at] == value)
			return 0;
	set->table[at] = value;
	set->used++;
	return 0;
}

/* One to one, but for 0, which is no inode number. */
static uint64_t mixed(uint64_t value)
{
	value ^= value >> 32;
	value *= 0x9e3779b97f4a7c15u;
	value ^= value >> 29;
	return value ? value : 1;
}

static uint64_t bits_of(uint64_t parent, const char *name, size_t length)
{
	uint64_t value = mixed(parent), part;

	for (; length >= sizeof part; name += sizeof part, length -= sizeof part) {
		memcpy(&part, name, sizeof part);
		value = mixed(value ^ part) + sizeof part;
	}
	part = 0;
	memcpy(&part, name, length);
	return mixed((value + length) ^ part);
}

/* Begin anew: nothing is known of the directories that there are. */
void artstorefs_names_unknown(void)
{
	free(names.table);
	free(directories.table);
	memset(&names, 0, sizeof names);
	memset(&directories, 0, sizeof directories);
	making_directory = 0;
}

static void note_name(uint64_t parent, const char *name, size_t length)
{
	if (!is_in(&directories, mixed(parent)))
		return;
	if (names.used >= LIMIT || put(&names, bits_of(parent, name, length)) != 0)
		artstorefs_names_unknown();
}

void names_of_request(const char *request, size_t size)
{
	const struct fuse_in_header *header = (const void *)request;
	size_t start = sizeof *header;
	uint64_t parent = header->nodeid;
	const char *name;
	size_t length;

	switch (header->opcode) {
	case FUSE_MKDIR:
		making_directory = header->unique;
		start += sizeof(struct fuse_mkdir_in);
		break;
	case FUSE_CREATE:
		start += sizeof(struct fuse_create_in);
		break;
	case FUSE_MKNOD:
		start += sizeof(struct fuse_mknod_in);
		break;
	case FUSE_LINK:
		start += sizeof(struct fuse_link_in);
		break;
	case FUSE_SYMLINK:
		break;
	case FUSE_RENAME:
		start += sizeof(struct fuse_rename_in);
		break;
	case FUSE_RENAME2:
		start += sizeof(struct fuse_rename2_in);
		break;
	default:
		return;
	}
	if (start >= size)
		return;
	name = request + start;
	length = strnlen(name, size - start);
	if (header->opcode == FUSE_RENAME || header->opcode == FUSE_RENAME2) {
		/* The directory it goes to is first, its new name last; the old one was there. */
		memcpy(&parent, request + sizeof *header, sizeof parent);
		start += length + 1;
		if (start >= size)
			return;
		name = request + start;
		length = strnlen(name, size - start);
	}
	note_name(parent, name, length);
}

void names_of_reply(uint64_t unique, const void *reply, size_t size)
{
	const struct fuse_entry_out *made = reply;

	if (unique != making_directory)
		return;
	making_directory = 0;
	if (size < sizeof *made)
		return;	/* it failed */
	if (directories.used >= LIMIT || put(&directories, mixed(made->nodeid)) != 0)
		artstorefs_names_unknown();
}

int is_surely_absent(const char *request, size_t size)
{
	const struct fuse_in_header *header = (const void *)request;
	const char *name = request + sizeof *header;
	size_t length;

	if (header->opcode != FUSE_LOOKUP || !is_in(&directories, mixed(header->nodeid)))
		return 0;
	length = strnlen(name, size - sizeof *header);
	if (length == 0 || length > 255 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	return !is_in(&names, bits_of(header->nodeid, name, length));
}
