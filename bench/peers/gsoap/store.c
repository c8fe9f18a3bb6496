/* The durable write: SQLite with WAL and synchronous=FULL, one thread that writes all waiting messages in one transaction.
 *
 * A row a channel's run of intervals, the raw message, the unique id, the signed receipt: what Gridpost keeps, without
 * its log and its compression. */
#include "peer.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct waiting {
    const struct message *message;
    char *receipt;
    int done;
    pthread_cond_t changed;
    struct waiting *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static struct waiting *first, **last = &first;
static sqlite3 *database;
static sqlite3_stmt *find_id, *find_blocks, *insert_message, *insert_block, *begin, *commit;
static int64_t seq;

static const char TABLES[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
    "CREATE TABLE message (id INTEGER PRIMARY KEY, sender TEXT, message_id TEXT, content_sha256 BLOB, recorded_at INTEGER,"
    " raw BLOB, receipt TEXT, UNIQUE (message_id, sender));"
    "CREATE TABLE block (channel INTEGER, first_end_utc INTEGER, last_end_utc INTEGER, message INTEGER, interval_s INTEGER,"
    " value_list TEXT, quality_list TEXT, PRIMARY KEY (channel, first_end_utc, message)) WITHOUT ROWID;";

static sqlite3_stmt *prepared(const char *sql) {
    sqlite3_stmt *made;
    if (sqlite3_prepare_v3(database, sql, -1, SQLITE_PREPARE_PERSISTENT, &made, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(database));
    return made;
}

static void step(sqlite3_stmt *statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) die(sqlite3_errmsg(database));
    sqlite3_reset(statement);
}

/* Whether two decimal literals are equal as numbers: sign, digits before the point and after it without idle zeros. */
static int equal(const char *one, const char *other) {
    int negative[2];
    const char *text[2] = {one, other};
    for (int side = 0; side < 2; side++) {
        negative[side] = *text[side] == '-';
        text[side] += *text[side] == '-' || *text[side] == '+';
        while (*text[side] == '0') text[side]++;
    }
    size_t whole = strcspn(text[0], "."), nonzero = whole;
    if (whole != strcspn(text[1], ".") || strncmp(text[0], text[1], whole)) return 0;
    const char *rest[2] = {text[0] + whole + (text[0][whole] == '.'), text[1] + whole + (text[1][whole] == '.')};
    while (*rest[0] || *rest[1]) {
        char left = *rest[0] ? *rest[0]++ : '0', right = *rest[1] ? *rest[1]++ : '0';
        if (left != right) return 0;
        nonzero += left != '0';
    }
    return negative[0] == negative[1] || !nonzero;
}

/* Write the block's value at an interval's end, from `["1","2"]`, to `value`; return whether it has one. */
static int on_file(const char *json, int place, char *value, size_t room) {
    const char *at = json + 2;
    while (place--) {
        at = strstr(at, "\",\"");
        if (!at) return 0;
        at += 3;
    }
    snprintf(value, room, "%.*s", (int)strcspn(at, "\""), at);
    return 1;
}

/* Count what is new, known and other than on file. */
static void compare(const struct block *block, int counts[3]) {
    int64_t last_end = block->first_end_utc + (int64_t)(block->count - 1) * block->interval_s;
    char *met = calloc((size_t)block->count, 1);
    sqlite3_bind_int(find_blocks, 1, block->channel);
    sqlite3_bind_int64(find_blocks, 2, last_end);
    while (sqlite3_step(find_blocks) == SQLITE_ROW && sqlite3_column_int64(find_blocks, 1) >= block->first_end_utc) {
        int64_t start = sqlite3_column_int64(find_blocks, 0), step_s = sqlite3_column_int(find_blocks, 2);
        const char *json = (const char *)sqlite3_column_text(find_blocks, 3);
        for (int place = 0; place < block->count; place++) {
            int64_t apart = block->first_end_utc + (int64_t)place * block->interval_s - start;
            char old[64];
            if (met[place] || apart < 0 || apart % step_s || !on_file(json, (int)(apart / step_s), old, sizeof old)) continue;
            met[place] = 1;
            counts[equal(old, block->values[place]) ? 1 : 2]++;
        }
    }
    sqlite3_reset(find_blocks);
    for (int place = 0; place < block->count; place++) counts[0] += !met[place];
    free(met);
}

static void write_block(const struct block *block, struct text *values, struct text *qualities) {
    values->length = qualities->length = 0;
    text_put(qualities, "");
    for (int place = 0; place < block->count; place++) {
        text_put(values, place ? "\",\"" : "[\"");
        text_put(values, block->values[place]);
        if (place) text_put(qualities, ",");
        text_put(qualities, block->qualities[place]);
    }
    text_put(values, "\"]");
    sqlite3_bind_int(insert_block, 1, block->channel);
    sqlite3_bind_int64(insert_block, 2, block->first_end_utc);
    sqlite3_bind_int64(insert_block, 3, block->first_end_utc + (int64_t)(block->count - 1) * block->interval_s);
    sqlite3_bind_int64(insert_block, 4, seq);
    sqlite3_bind_int(insert_block, 5, block->interval_s);
    sqlite3_bind_text(insert_block, 6, values->bytes, (int)values->length, SQLITE_STATIC);
    sqlite3_bind_text(insert_block, 7, qualities->bytes, (int)qualities->length, SQLITE_STATIC);
    step(insert_block);
}

static char *record(const struct message *message) {
    static struct text values, qualities; /* the one writer's */
    sqlite3_bind_text(find_id, 1, message->message_id, -1, SQLITE_STATIC);
    sqlite3_bind_text(find_id, 2, message->sender, -1, SQLITE_STATIC);
    if (sqlite3_step(find_id) == SQLITE_ROW) {
        int same = !memcmp(sqlite3_column_blob(find_id, 0), message->content_digest, DIGEST);
        char *receipt = same ? strdup((const char *)sqlite3_column_text(find_id, 1)) : NULL;
        sqlite3_reset(find_id);
        return receipt;
    }
    sqlite3_reset(find_id);
    int counts[3] = {0};
    time_t now = time(NULL);
    seq++;
    for (int number = 0; number < message->block_count; number++) {
        int known = counts[1];
        compare(&message->blocks[number], counts);
        if (counts[1] - known < message->blocks[number].count) write_block(&message->blocks[number], &values, &qualities);
    }
    char *receipt = receipt_make(message, now, seq, counts);
    sqlite3_bind_int64(insert_message, 1, seq);
    sqlite3_bind_text(insert_message, 2, message->sender, -1, SQLITE_STATIC);
    sqlite3_bind_text(insert_message, 3, message->message_id, -1, SQLITE_STATIC);
    sqlite3_bind_blob(insert_message, 4, message->content_digest, DIGEST, SQLITE_STATIC);
    sqlite3_bind_int64(insert_message, 5, now);
    sqlite3_bind_blob(insert_message, 6, message->raw, (int)message->raw_length, SQLITE_STATIC);
    sqlite3_bind_text(insert_message, 7, receipt, -1, SQLITE_STATIC);
    step(insert_message);
    return receipt;
}

/* The writer: all that wait are one group; a thread is woken when its receipt is on disk. */
static void *write_groups(void *ignored) {
    (void)ignored;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!first) pthread_cond_wait(&arrived, &lock);
        struct waiting *group = first;
        first = NULL, last = &first;
        pthread_mutex_unlock(&lock);
        step(begin);
        for (struct waiting *one = group; one; one = one->next) one->receipt = record(one->message);
        step(commit);
        pthread_mutex_lock(&lock);
        for (struct waiting *one = group, *next; one; one = next) {
            next = one->next; /* its thread may be gone with it once it is woken */
            one->done = 1;
            pthread_cond_signal(&one->changed);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

void store_open(const char *file) {
    pthread_t writer;
    if (sqlite3_open(file, &database) != SQLITE_OK || sqlite3_exec(database, TABLES, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(database));
    find_id = prepared("SELECT content_sha256, receipt FROM message WHERE message_id = ? AND sender = ?");
    find_blocks = prepared("SELECT first_end_utc, last_end_utc, interval_s, value_list FROM block"
                           " WHERE channel = ? AND first_end_utc <= ? ORDER BY first_end_utc DESC, message");
    insert_message = prepared("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)");
    insert_block = prepared("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)");
    begin = prepared("BEGIN IMMEDIATE");
    commit = prepared("COMMIT");
    if (pthread_create(&writer, NULL, write_groups, NULL)) die("a thread");
}

char *store_record(const struct message *message) {
    struct waiting mine = {.message = message};
    pthread_cond_init(&mine.changed, NULL);
    pthread_mutex_lock(&lock);
    *last = &mine, last = &mine.next;
    pthread_cond_signal(&arrived);
    while (!mine.done) pthread_cond_wait(&mine.changed, &lock);
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&mine.changed);
    return mine.receipt;
}
