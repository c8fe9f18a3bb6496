/* Who is enrolled: certificates by SHA-256 of their DER, parsed once; channels by what a message calls them. */
#include "peer.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 1 << 14 };

struct device {
    unsigned char digest[DIGEST];
    char *serial;
    X509 *certificate;
    time_t not_before, not_after;
};
struct named_channel {
    char *key;
    struct channel channel;
};

static struct device *devices[SLOTS];
static struct named_channel *channels[SLOTS];
static _Thread_local const struct device *signer;

static unsigned hash(const unsigned char *bytes, size_t length) {
    unsigned found = 2166136261u; /* FNV-1a */
    while (length--) found = (found ^ *bytes++) * 16777619u;
    return found % SLOTS;
}

static time_t seconds(const ASN1_TIME *time) {
    struct tm parts;
    if (!ASN1_TIME_to_tm(time, &parts)) die("a certificate's date");
    return timegm(&parts);
}

static void add_device(const char *serial, const char *base64) {
    size_t length = strlen(base64);
    unsigned char *der = malloc(length);
    int size = EVP_DecodeBlock(der, (const unsigned char *)base64, (int)length);
    while (length && base64[--length] == '=') size--;
    const unsigned char *at = der;
    struct device *made = calloc(1, sizeof *made);
    made->serial = strdup(serial);
    made->certificate = d2i_X509(NULL, &at, size);
    if (!made->certificate) die("an enrolled certificate");
    made->not_before = seconds(X509_get0_notBefore(made->certificate));
    made->not_after = seconds(X509_get0_notAfter(made->certificate));
    SHA256(der, (size_t)size, made->digest);
    free(der);
    unsigned slot = hash(made->digest, DIGEST);
    while (devices[slot]) slot = (slot + 1) % SLOTS;
    devices[slot] = made;
}

static void add_channel(const char *key, struct channel channel) {
    struct named_channel *made = malloc(sizeof *made);
    made->key = strdup(key);
    made->channel = channel;
    unsigned slot = hash((const unsigned char *)key, strlen(key));
    while (channels[slot]) slot = (slot + 1) % SLOTS;
    channels[slot] = made;
}

void enrolled_load(const char *file) {
    FILE *in = fopen(file, "r");
    char *line = NULL;
    size_t room = 0;
    int count = 0;
    if (!in) die(file);
    while (getline(&line, &room, in) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *kind = strsep(&rest, "\t");
        if (!strcmp(kind, "device")) {
            char *serial = strsep(&rest, "\t");
            add_device(serial, rest);
            continue;
        }
        char *part = rest, *end = rest;
        for (int number = 0; number < 5; number++) end = strchr(part, '\t'), part = end + 1;
        *end = 0; /* the first five, with the tabs between them, are the key */
        struct channel channel = {.id = ++count};
        channel.interval_s = atoi(strsep(&part, "\t"));
        channel.offset_s = atoi(strsep(&part, "\t"));
        channel.valid_from_utc = atoll(part);
        add_channel(rest, channel);
    }
    free(line);
    fclose(in);
}

X509 *enrolled_certificate(X509 **ignored, const unsigned char **der, long length) {
    unsigned char digest[DIGEST];
    (void)ignored;
    SHA256(*der, (size_t)length, digest);
    signer = NULL;
    for (unsigned slot = hash(digest, DIGEST); devices[slot]; slot = (slot + 1) % SLOTS) {
        if (memcmp(devices[slot]->digest, digest, DIGEST)) continue;
        signer = devices[slot];
        X509_up_ref(signer->certificate);
        return signer->certificate;
    }
    return NULL;
}

int enrolled_is_valid(X509_STORE_CTX *ignored) {
    time_t now = time(NULL);
    (void)ignored;
    return signer && signer->not_before <= now && now <= signer->not_after;
}

const char *enrolled_signer(void) {
    return signer ? signer->serial : NULL;
}

const struct channel *enrolled_channel(const char *const key[5]) {
    char joined[512];
    int length = snprintf(joined, sizeof joined, "%s\t%s\t%s\t%s\t%s", key[0], key[1], key[2], key[3], key[4]);
    if (length < 0 || (size_t)length >= sizeof joined) return NULL;
    for (unsigned slot = hash((const unsigned char *)joined, (size_t)length); channels[slot]; slot = (slot + 1) % SLOTS)
        if (!strcmp(channels[slot]->key, joined)) return &channels[slot]->channel;
    return NULL;
}
