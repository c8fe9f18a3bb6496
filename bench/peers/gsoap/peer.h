/* What the parts of the gSOAP peer share. */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { DIGEST = 32, REFERENCES = 2 };

/* enrolled.c: who is enrolled, and which channels each may speak for */
struct channel {
    int id, interval_s, offset_s;
    int64_t valid_from_utc;
};
void enrolled_load(const char *file);
const char *enrolled_signer(void); /* the serial whose certificate this thread's newest message named */
const struct channel *enrolled_channel(const char *const key[5]); /* serial, usage point, meter, stream, reading type */

/* store.c: SQLite, a group of messages a transaction */
struct block {
    int channel, interval_s, count;
    int64_t first_end_utc;
    const char **values, **qualities; /* decimal literals as sent; codes joined by ';' */
};
struct message {
    const char *sender, *message_id, *raw;
    size_t raw_length;
    unsigned char content_digest[DIGEST];
    const char *uris[REFERENCES], *digests[REFERENCES]; /* digests in base64 */
    struct block *blocks;
    int block_count;
};
void store_open(const char *file);
char *store_record(const struct message *message); /* the receipt, to be freed, once it is on disk; NULL: the id has other content */

/* receipt.c: signs receipts; the writer's thread alone uses it */
struct text {
    char *bytes;
    size_t length, room;
};
void text_add(struct text *text, const char *bytes, size_t length);
void text_put(struct text *text, const char *string);
void receipt_load(const char *key_file);
char *receipt_make(const struct message *message, time_t recorded_at, int64_t seq, const int counts[3]);

void die(const char *what);

#endif
