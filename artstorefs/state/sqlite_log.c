/*
 * SQLite's log of an index, written with one system call for each transaction.
 *
 * SQLite writes each page of a transaction to its log as two pwrites, a frame header of 24 bytes and
 * the page: a dozen for a file that is made, and they were a fifth of what that costs. Here they are
 * gathered, and written when the transaction has its last frame, which is before SQLite tells any
 * other connection of it and before COMMIT returns. What a crash may leave is no more than before: a
 * log whose last transaction is whole, or is not there.
 *
 * This is a shim over SQLite's own VFS ("OS interface", sqlite.org/vfs.html), registered under a name
 * of its own; only files that are opened as a log pass through it. The structures below are those of
 * sqlite3.h, whose layout is stable; the functions are those of the SQLite that Python has loaded, and
 * are handed in, so that neither the header nor the library is needed to build this.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SQLITE_OK 0
#define SQLITE_NOMEM 7
#define SQLITE_OPEN_WAL 0x00080000

#define FRAME_HEADER_BYTES 24 /* sqlite.org/fileformat2.html, section 4.1 */
#define BUFFER_BYTES (64 * 1024) /* SQLite's write takes 17 bits of a length, and drops the rest */

typedef int64_t offset_t;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_vfs sqlite3_vfs;

struct sqlite3_io_methods {
	int version;
	int (*close)(sqlite3_file *);
	int (*read)(sqlite3_file *, void *, int, offset_t);
	int (*write)(sqlite3_file *, const void *, int, offset_t);
	int (*truncate)(sqlite3_file *, offset_t);
	int (*sync)(sqlite3_file *, int);
	int (*file_size)(sqlite3_file *, offset_t *);
	int (*lock)(sqlite3_file *, int);
	int (*unlock)(sqlite3_file *, int);
	int (*check_reserved_lock)(sqlite3_file *, int *);
	int (*file_control)(sqlite3_file *, int, void *);
	int (*sector_size)(sqlite3_file *);
	int (*device_characteristics)(sqlite3_file *);
	/* those of later versions are for the database file: shared memory, mapped pages */
};

struct sqlite3_file {
	const struct sqlite3_io_methods *methods;
};

struct sqlite3_vfs {
	int version;
	int file_bytes;
	int path_bytes_max;
	sqlite3_vfs *next;
	const char *name;
	void *data;
	int (*open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
	void (*others[15])(void); /* up to version 3; they know nothing of an open file */
};

/* A log. `gathered` bytes that belong at `start` are not written yet. `end` is where a write would go
 * on where the last one stopped; -1 when that is not known. */
struct log_file {
	sqlite3_file base;
	offset_t start;
	offset_t end;
	int gathered;
	int ends_transaction; /* the frame whose header was written last */
	unsigned char *buffer;
	sqlite3_file *real;
};

static sqlite3_vfs *original;
static sqlite3_vfs shim;

static int write_gathered(struct log_file *log)
{
	int count = log->gathered, result;

	if (!count)
		return SQLITE_OK;
	log->gathered = 0;
	result = log->real->methods->write(log->real, log->buffer, count, log->start);
	if (result != SQLITE_OK)
		log->end = -1;
	return result;
}

static int write_through(struct log_file *log, const void *data, int count, offset_t offset)
{
	int result = log->real->methods->write(log->real, data, count, offset);

	log->end = result == SQLITE_OK ? offset + count : -1;
	return result;
}

static int gather(struct log_file *log, const void *data, int count, offset_t offset)
{
	if (!log->gathered)
		log->start = offset;
	memcpy(log->buffer + log->gathered, data, (size_t)count);
	log->gathered += count;
	log->end = offset + count;
	return SQLITE_OK;
}

/* A frame that is appended is gathered. What is written anywhere else (the log's header, a page that
 * the transaction has in the log already, checksums that follow from that) goes out at once, for
 * nothing tells when it has to be there. */
static int log_write(sqlite3_file *file, const void *data, int count, offset_t offset)
{
	struct log_file *log = (struct log_file *)file;
	const unsigned char *bytes = data;
	int follows = offset == log->end, is_header = count == FRAME_HEADER_BYTES, result = SQLITE_OK;

	/* bytes 4 to 7: the size of the database after a transaction, 0 before its last frame */
	if (is_header)
		log->ends_transaction = bytes[4] || bytes[5] || bytes[6] || bytes[7];
	if (!follows || log->gathered + count > BUFFER_BYTES)
		result = write_gathered(log);
	if (result != SQLITE_OK)
		return result;
	if (!follows || count > BUFFER_BYTES)
		return write_through(log, data, count, offset);
	gather(log, data, count, offset);
	return log->ends_transaction && !is_header ? write_gathered(log) : SQLITE_OK;
}

static int log_read(sqlite3_file *file, void *data, int count, offset_t offset)
{
	struct log_file *log = (struct log_file *)file;
	int result = write_gathered(log); /* a transaction that is too large for the cache of pages */

	return result != SQLITE_OK ? result
				   : log->real->methods->read(log->real, data, count, offset);
}

static int log_truncate(sqlite3_file *file, offset_t size)
{
	struct log_file *log = (struct log_file *)file;
	int result = write_gathered(log);

	log->end = -1;
	return result != SQLITE_OK ? result : log->real->methods->truncate(log->real, size);
}

static int log_sync(sqlite3_file *file, int flags)
{
	struct log_file *log = (struct log_file *)file;
	int result = write_gathered(log);

	return result != SQLITE_OK ? result : log->real->methods->sync(log->real, flags);
}

static int log_file_size(sqlite3_file *file, offset_t *size)
{
	struct log_file *log = (struct log_file *)file;
	int result = write_gathered(log);

	return result != SQLITE_OK ? result : log->real->methods->file_size(log->real, size);
}

static int log_close(sqlite3_file *file)
{
	struct log_file *log = (struct log_file *)file;

	/* What may be gathered is of a transaction that was rolled back: nobody misses it. */
	free(log->buffer);
	return log->real->methods->close(log->real);
}

#define REAL(file) (((struct log_file *)(file))->real)

static int log_lock(sqlite3_file *file, int level)
{
	return REAL(file)->methods->lock(REAL(file), level);
}

static int log_unlock(sqlite3_file *file, int level)
{
	return REAL(file)->methods->unlock(REAL(file), level);
}

static int log_check_reserved_lock(sqlite3_file *file, int *result)
{
	return REAL(file)->methods->check_reserved_lock(REAL(file), result);
}

static int log_file_control(sqlite3_file *file, int operation, void *argument)
{
	return REAL(file)->methods->file_control(REAL(file), operation, argument);
}

static int log_sector_size(sqlite3_file *file)
{
	return REAL(file)->methods->sector_size(REAL(file));
}

static int log_device_characteristics(sqlite3_file *file)
{
	return REAL(file)->methods->device_characteristics(REAL(file));
}

static const struct sqlite3_io_methods methods_of_logs = {
	.version = 1,
	.close = log_close,
	.read = log_read,
	.write = log_write,
	.truncate = log_truncate,
	.sync = log_sync,
	.file_size = log_file_size,
	.lock = log_lock,
	.unlock = log_unlock,
	.check_reserved_lock = log_check_reserved_lock,
	.file_control = log_file_control,
	.sector_size = log_sector_size,
	.device_characteristics = log_device_characteristics,
};

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *given)
{
	struct log_file *log = (struct log_file *)file;
	unsigned char *buffer;
	int result;

	(void)vfs;
	if (!(flags & SQLITE_OPEN_WAL))
		return original->open(original, name, file, flags, given);
	file->methods = NULL; /* where opening fails, there is nothing to be closed */
	buffer = malloc(BUFFER_BYTES);
	if (!buffer)
		return SQLITE_NOMEM;
	*log = (struct log_file){
		.end = -1, .buffer = buffer, .real = (sqlite3_file *)(log + 1)};
	result = original->open(original, name, log->real, flags, given);
	if (result != SQLITE_OK) {
		free(buffer);
		if (log->real->methods)
			log->real->methods->close(log->real);
		return result;
	}
	log->base.methods = &methods_of_logs;
	return SQLITE_OK;
}

/* Registers the VFS `name`, which must stay where it is; SQLite's result code. */
int artstorefs_register_vfs(sqlite3_vfs *(*find)(const char *), int (*add)(sqlite3_vfs *, int),
			    const char *name)
{
	original = find(NULL);
	if (!original || original->version < 3)
		return 1; /* SQLITE_ERROR: older than anything that Python 3.11 comes with */
	shim = *original;
	shim.version = 3;
	shim.file_bytes = original->file_bytes + (int)sizeof(struct log_file);
	shim.next = NULL;
	shim.name = name;
	shim.open = open_file;
	return add(&shim, 0);
}
