/* gSOAP's own parts, put together for bench/peers.py: its HTTP server with a thread a connection, the deserialiser that
 * soapcpp2 makes of metering.wsdl, the WS-Security plugin. What each step does, and where this peer has the benefit, is in
 * bench/README.md.
 *
 * Argument: the folder with enrolled.tsv, bus.key and the database to be. Prints its address as JSON. */
#include "peer.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "MeteringBinding.nsmap"
#include "plugin/wsseapi.h"

enum { OLDEST_S = 15 * 60, AHEAD_S = 60, DAY_S = 86400, KEPT_ALIVE = 1 << 30 };

static const char HEAD[] =
    "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>"
    "<MeterReadingsResponseMessage xmlns=\"http://iec.ch/TC57/2011/MeterReadingsMessage\">"
    "<Header xmlns:c=\"http://iec.ch/TC57/2011/schema/message\"><c:Verb>reply</c:Verb><c:Noun>MeterReadings</c:Noun>"
    "<c:Source>bus</c:Source></Header><Reply><Result xmlns=\"http://iec.ch/TC57/2011/schema/message\">OK</Result></Reply><Payload>";
static const char TAIL[] = "</Payload></MeterReadingsResponseMessage></soap:Body></soap:Envelope>";

struct capture { /* of each connection: the request's bytes as they came, which are the evidence kept */
    size_t (*receive)(struct soap *, char *, size_t);
    struct text request, answer;
};

void die(const char *what) {
    fprintf(stderr, "gsoap peer: %s\n", what);
    exit(1);
}

static size_t receive(struct soap *soap, char *bytes, size_t length) {
    struct capture *capture = soap->user;
    size_t got = capture->receive(soap, bytes, length);
    text_add(&capture->request, bytes, got);
    return got;
}

static int is_decimal(const char *text) {
    if (!text) return 0;
    text += *text == '-' || *text == '+';
    size_t whole = strspn(text, "0123456789"), part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    return whole + part && !text[whole + (text[whole] == '.') + part];
}

/* The references are to Body and Timestamp, both, and nothing else; the content's digest is the Body's, as verified. */
static int is_covered(struct soap *soap, struct message *message) {
    ds__SignedInfoType *info = soap_wsse_SignedInfo(soap);
    _wsu__Timestamp *timestamp = soap_wsse_Timestamp(soap);
    int timed = 0;
    if (!info || info->__sizeReference != REFERENCES || !timestamp || !timestamp->wsu__Id || soap_wsse_verify_body(soap)) return 0;
    for (int number = 0; number < REFERENCES; number++) {
        ds__ReferenceType *one = info->Reference[number];
        message->uris[number] = one->URI, message->digests[number] = one->DigestValue;
        if (!strcmp(one->URI + 1, timestamp->wsu__Id)) {
            timed++;
            continue;
        }
        int size = 0;
        const char *digest = soap_base642s(soap, one->DigestValue, NULL, 0, &size);
        if (!digest || size != DIGEST) return 0;
        memcpy(message->content_digest, digest, DIGEST);
    }
    return timed == 1;
}

static const char *header_fault(struct soap *soap, const struct msg__HeaderType *header) {
    time_t created, now = time(NULL);
    if (header->Verb != msg__VerbType__created || strcmp(header->Noun, "MeterReadings") || !header->Timestamp ||
        !header->MessageID || !*header->MessageID)
        return "header-incomplete";
    if (!header->Source || strcmp(header->Source, enrolled_signer())) return "source-mismatch";
    if (soap_s2dateTime(soap, soap_wsse_Timestamp(soap)->Created, &created)) return "malformed";
    return created < now - OLDEST_S || created > now + AHEAD_S ? "message-stale" : NULL;
}

static const char *stream_of(const struct m__Meter *meter) {
    for (int number = 0; number < meter->__sizeNames; number++)
        if (meter->Names[number].NameType && !strcmp(meter->Names[number].NameType->name, "channel"))
            return meter->Names[number].name;
    return "";
}

static const char *quality_of(struct soap *soap, const struct m__IntervalReading *reading) {
    struct text joined = {0};
    if (!reading->__sizeReadingQualities) return "";
    for (int number = 0; number < reading->__sizeReadingQualities; number++) {
        if (number) text_put(&joined, ";");
        text_put(&joined, reading->ReadingQualities[number].ReadingQualityType->ref);
    }
    char *kept = soap_strdup(soap, joined.bytes);
    free(joined.bytes);
    return kept;
}

/* Add the intervals as regular runs, each value on the channel's grid and not in the future. */
static const char *add_runs(struct soap *soap, const struct m__IntervalBlock *sent, const struct channel *channel,
                            struct message *message) {
    time_t latest = time(NULL) + AHEAD_S;
    struct block *run = NULL;
    int count = sent->__sizeIntervalReadings;
    const char **texts = soap_malloc(soap, 2 * (size_t)count * sizeof *texts);
    for (int place = 0; place < count; place++) {
        const struct m__IntervalReading *reading = &sent->IntervalReadings[place];
        if (!reading->timeStamp || !is_decimal(reading->value)) return "schema-invalid";
        int64_t end = *reading->timeStamp;
        if (end <= channel->valid_from_utc || (end + channel->offset_s) % DAY_S % channel->interval_s) return "readings-refused";
        if (end > latest) return "reading-in-future";
        texts[place] = reading->value, texts[count + place] = quality_of(soap, reading);
        if (run && end == run->first_end_utc + (int64_t)run->count * run->interval_s) {
            run->count++;
            continue;
        }
        message->blocks = realloc(message->blocks, (size_t)(message->block_count + 1) * sizeof *run);
        run = &message->blocks[message->block_count++];
        *run = (struct block){channel->id, channel->interval_s, 1, end, texts + place, texts + count + place};
    }
    return NULL;
}

static const char *readings_fault(struct soap *soap, const struct m__MeterReadings *readings, struct message *message) {
    for (int number = 0; number < readings->__sizeMeterReading; number++) {
        const struct m__MeterReading *reading = &readings->MeterReading[number];
        if (!reading->Meter || !reading->Meter->mRID || !reading->UsagePoint || !reading->UsagePoint->mRID) return "schema-invalid";
        for (int block = 0; block < reading->__sizeIntervalBlocks; block++) {
            const struct m__IntervalBlock *sent = &reading->IntervalBlocks[block];
            const char *key[5] = {message->sender, reading->UsagePoint->mRID, reading->Meter->mRID, stream_of(reading->Meter),
                                  sent->ReadingType->ref};
            const struct channel *channel = enrolled_channel(key);
            const char *fault = channel ? add_runs(soap, sent, channel, message) : "unknown-channel";
            if (fault) return fault;
        }
    }
    return NULL;
}

/* gSOAP would count and serialise a response structure; a prepared text is cheaper. */
static int answer(struct soap *soap, const char *receipt) {
    struct text *out = &((struct capture *)soap->user)->answer;
    char head[160];
    size_t length = sizeof HEAD - 1 + strlen(receipt) + sizeof TAIL - 1;
    out->length = 0;
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %zu\r\n\r\n", length);
    text_put(out, head), text_put(out, HEAD), text_put(out, receipt), text_put(out, TAIL);
    for (size_t sent = 0; sent < out->length;) {
        ssize_t took = send(soap->socket, out->bytes + sent, out->length - sent, MSG_NOSIGNAL);
        if (took <= 0) return SOAP_EOF;
        sent += (size_t)took;
    }
    return SOAP_STOP;
}

/* gSOAP calls this once the plugin has verified the signature and the structures are filled. */
int __ns1__PublishCreatedMeterReadings(struct soap *soap, struct mrm__CreatedMeterReadingsType *sent,
                                       struct mrm__MeterReadingsResponseMessageType *ignored) {
    struct text *request = &((struct capture *)soap->user)->request;
    struct message message = {0};
    (void)ignored;
    if (!enrolled_signer() || !is_covered(soap, &message)) return soap_sender_fault(soap, "signature-invalid", NULL);
    const char *fault = header_fault(soap, sent->Header);
    message.sender = enrolled_signer(), message.message_id = sent->Header->MessageID;
    if (!fault) fault = readings_fault(soap, sent->Payload->m__MeterReadings, &message);
    if (!fault) {
        message.raw = strstr(request->bytes, "\r\n\r\n") + 4;
        message.raw_length = (size_t)(request->bytes + request->length - message.raw);
        char *receipt = store_record(&message);
        int done = receipt ? answer(soap, receipt) : soap_sender_fault(soap, "message-id-reused", NULL);
        free(receipt), free(message.blocks);
        return done;
    }
    free(message.blocks);
    return soap_sender_fault(soap, fault, NULL);
}

int __ns1__PublishCreatedEndDeviceEvents(struct soap *soap, struct edem__CreatedEndDeviceEventsType *sent,
                                         struct edem__EndDeviceEventsResponseMessageType *ignored) {
    (void)sent, (void)ignored;
    return soap_sender_fault(soap, "not-in-the-bench", NULL);
}

static void *serve(void *context) {
    struct soap *soap = context;
    struct capture capture = {.receive = soap->frecv};
    soap->user = &capture, soap->frecv = receive;
    soap_wsse_verify_auto(soap, SOAP_SMD_NONE, NULL, 0);
    soap->keep_alive = soap->max_keep_alive + 1;
    do {
        capture.request.length = 0;
        if (soap_begin_serve(soap)) {
            if (soap->error < SOAP_STOP) break;
        } else if (soap_serve_request(soap) && soap->error < SOAP_STOP) {
            soap_send_fault(soap);
        }
        soap_wsse_delete_Security(soap);
        soap_destroy(soap);
        soap_end(soap);
    } while (soap->keep_alive);
    soap_closesock(soap);
    soap_free(soap);
    free(capture.request.bytes), free(capture.answer.bytes);
    return NULL;
}

int main(int count, char **arguments) {
    char path[4096];
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    if (count != 2) die("peer FOLDER");
    snprintf(path, sizeof path, "%s/enrolled.tsv", arguments[1]), enrolled_load(path);
    snprintf(path, sizeof path, "%s/bus.key", arguments[1]), receipt_load(path);
    snprintf(path, sizeof path, "%s/peer.db", arguments[1]), store_open(path);
    struct soap *soap = soap_new1(SOAP_XML_STRICT | SOAP_IO_KEEPALIVE | SOAP_C_UTFSTRING);
    soap->max_keep_alive = KEPT_ALIVE;
    soap->bind_flags = SO_REUSEADDR;
    soap_register_plugin(soap, soap_wsse);
    if (!soap_valid_socket(soap_bind(soap, "127.0.0.1", 0, 1024))) die("no port");
    getsockname(soap->master, (struct sockaddr *)&bound, &size);
    printf("{\"addresses\": [\"http://127.0.0.1:%d\"]}\n", ntohs(bound.sin_port));
    fflush(stdout);
    while (soap_valid_socket(soap_accept(soap))) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, soap_copy(soap))) die("a thread");
        pthread_detach(thread);
    }
    return 0;
}
