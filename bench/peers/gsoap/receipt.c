/* The signed receipt: an element with an enveloped signature, ECDSA P-256 as Gridpost's has, written in canonical form.
 *
 * gSOAP's plugin signs with P-256 too, but as a DER sequence, which no other toolkit takes; with RSA-2048 it would pay
 * ten times the time. So this part is OpenSSL alone, which is to the peer's benefit. */
#include "peer.h"

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DS "http://www.w3.org/2000/09/xmldsig#"
#define EXCLUSIVE "http://www.w3.org/2001/10/xml-exc-c14n#"

static EVP_PKEY *key;

void receipt_load(const char *key_file) {
    FILE *in = fopen(key_file, "r");
    if (!in || !(key = PEM_read_PrivateKey(in, NULL, NULL, NULL))) die(key_file);
    fclose(in);
}

void text_add(struct text *text, const char *bytes, size_t length) {
    if (text->length + length + 1 > text->room) {
        text->room = 2 * (text->length + length + 1);
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes) die("memory");
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
}

void text_put(struct text *text, const char *string) {
    text_add(text, string, strlen(string));
}

static void element(struct text *out, const char *name, const char *content) {
    text_put(out, "<"), text_put(out, name), text_put(out, ">");
    for (; *content; content++) {
        if (*content == '&') text_put(out, "&amp;");
        else if (*content == '<') text_put(out, "&lt;");
        else if (*content == '>') text_put(out, "&gt;");
        else text_add(out, content, 1);
    }
    text_put(out, "</"), text_put(out, name), text_put(out, ">");
}

static void number(struct text *out, const char *name, int64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    element(out, name, digits);
}

static void base64(struct text *out, const unsigned char *bytes, int length) {
    char encoded[128];
    EVP_EncodeBlock((unsigned char *)encoded, bytes, length);
    text_put(out, encoded);
}

static void fields(struct text *out, const struct message *message, time_t recorded_at, int64_t seq, const int counts[3]) {
    char moment[32], encoded[64];
    struct tm parts;
    element(out, "messageId", message->message_id);
    element(out, "sender", message->sender);
    EVP_EncodeBlock((unsigned char *)encoded, message->content_digest, DIGEST);
    element(out, "contentDigest", encoded);
    for (int one = 0; one < REFERENCES; one++) {
        char reference[512];
        snprintf(reference, sizeof reference, "%s %s", message->uris[one], message->digests[one]);
        element(out, "reference", reference);
    }
    strftime(moment, sizeof moment, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&recorded_at, &parts));
    element(out, "recordedAt", moment);
    number(out, "seq", seq), number(out, "stored", counts[0]), number(out, "known", counts[1]);
    number(out, "conflicting", counts[2]);
}

/* The signature's two numbers, 32 bytes each, as XML Signature wants them (RFC 9231). */
static void sign(const struct text *signed_info, unsigned char both[2 * DIGEST]) {
    unsigned char der[80];
    size_t length = sizeof der;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) != 1 ||
        EVP_DigestSign(context, der, &length, (unsigned char *)signed_info->bytes, signed_info->length) != 1)
        die("signing");
    EVP_MD_CTX_free(context);
    const unsigned char *at = der;
    ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long)length);
    BN_bn2binpad(ECDSA_SIG_get0_r(parsed), both, DIGEST);
    BN_bn2binpad(ECDSA_SIG_get0_s(parsed), both + DIGEST, DIGEST);
    ECDSA_SIG_free(parsed);
}

char *receipt_make(const struct message *message, time_t recorded_at, int64_t seq, const int counts[3]) {
    static const char END[] = "</Receipt>";
    struct text out = {0}, signed_info = {0};
    unsigned char digest[DIGEST], both[2 * DIGEST];
    text_put(&out, "<Receipt xmlns=\"urn:gridpost:receipt:1\">");
    fields(&out, message, recorded_at, seq, counts);
    size_t open = out.length;
    text_put(&out, END);
    SHA256((unsigned char *)out.bytes, out.length, digest);
    text_put(&signed_info, "<SignedInfo xmlns=\"" DS "\"><CanonicalizationMethod Algorithm=\"" EXCLUSIVE
             "\"></CanonicalizationMethod><SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256\">"
             "</SignatureMethod><Reference URI=\"\"><Transforms><Transform Algorithm=\"" DS "enveloped-signature\"></Transform>"
             "<Transform Algorithm=\"" EXCLUSIVE "\"></Transform></Transforms>"
             "<DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></DigestMethod><DigestValue>");
    base64(&signed_info, digest, DIGEST);
    text_put(&signed_info, "</DigestValue></Reference></SignedInfo>");
    sign(&signed_info, both);
    out.length = open;
    text_put(&out, "<Signature xmlns=\"" DS "\">");
    text_add(&out, signed_info.bytes, signed_info.length);
    text_put(&out, "<SignatureValue>");
    base64(&out, both, sizeof both);
    text_put(&out, "</SignatureValue></Signature>");
    text_put(&out, END);
    free(signed_info.bytes);
    return out.bytes;
}
