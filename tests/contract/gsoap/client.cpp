// Pushes two interval values through the proxy that gSOAP makes of metering.wsdl, and prints what the answer holds.
//
// client URL: exit status 0 with the receipt's fields, 3 with those of a typed refusal, 1 with gSOAP's own words.
// Nothing here spells an element's tag or a namespace: what compiles has read the contract. It does not sign; a real
// device seals the Body by the rules of docs/protocol.md.

#include <iostream>

#include "MeteringBinding.nsmap"
#include "soapMeteringBindingProxy.h"

static const char KWH[] = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0";
static const time_t FIRST_END = 1772324100;  // 2026-03-01T00:15:00Z, the end of the first interval

// Values behind pointers are what gSOAP wants for optional elements; they live as long as the context.
static std::string *text(soap *ctx, const std::string &value) {
  std::string *place = soap_new_std__string(ctx);
  *place = value;
  return place;
}

static time_t *moment(soap *ctx, time_t value) {
  time_t *place = static_cast<time_t *>(soap_malloc(ctx, sizeof(time_t)));
  *place = value;
  return place;
}

static m__IntervalReading *reading(soap *ctx, time_t end) {
  m__IntervalReading *made = soap_new_m__IntervalReading(ctx);
  made->timeStamp = moment(ctx, end);
  return made;
}

static msg__HeaderType *header(soap *ctx) {
  msg__HeaderType *made = soap_new_msg__HeaderType(ctx);
  made->Verb = msg__VerbType__created;
  made->Noun = "MeterReadings";
  made->Timestamp = moment(ctx, FIRST_END + 901);
  made->Source = text(ctx, "IED-7");
  made->MessageID = text(ctx, "0195-1");
  return made;
}

static m__MeterReadings *readings(soap *ctx) {
  m__IntervalReading *measured = reading(ctx, FIRST_END);
  measured->value = text(ctx, "0.125000");

  m__IntervalReading *missing = reading(ctx, FIRST_END + 900);
  m__ReadingQuality *quality = soap_new_m__ReadingQuality(ctx);
  quality->ReadingQualityType = soap_new_m__ReadingQualityTypeReference(ctx);
  quality->ReadingQualityType->ref = "2.5.259";
  missing->ReadingQualities.push_back(quality);

  m__IntervalBlock *block = soap_new_m__IntervalBlock(ctx);
  block->IntervalReadings = {measured, missing};
  block->ReadingType = soap_new_m__ReadingTypeReference(ctx);
  block->ReadingType->ref = KWH;

  m__MeterReading *channel = soap_new_m__MeterReading(ctx);
  channel->IntervalBlocks.push_back(block);
  channel->Meter = soap_new_m__Meter(ctx);
  channel->Meter->mRID = text(ctx, "M1");
  channel->UsagePoint = soap_new_m__ReadingUsagePoint(ctx);
  channel->UsagePoint->mRID = text(ctx, "UP1");

  m__MeterReadings *made = soap_new_m__MeterReadings(ctx);
  made->MeterReading.push_back(channel);
  return made;
}

static int report(const r__Receipt &receipt) {
  std::cout << "receipt " << receipt.messageId << ' ' << receipt.sender << ' ' << receipt.partition << ':' << receipt.seq
            << " digest " << receipt.contentDigest.__size << " references " << receipt.Reference.size() << " stored "
            << receipt.stored << '\n';
  return 0;
}

static int report(const mrm__MeterReadingsFaultMessageType &refused) {
  const msg__ErrorType &error = *refused.Reply->Error.at(0);
  std::cout << "refused " << error.code << " at " << *error.xpath << " retry "
            << soap_f__RefusalRetry2s(nullptr, refused.f__Refusal_->retry) << " signature "
            << refused.f__Refusal_->signatureDigest.__size << '\n';
  return 3;
}

int main(int, char **argv) {
  MeteringBindingProxy proxy(argv[1], SOAP_XML_STRICT | SOAP_XML_TREE | SOAP_C_UTFSTRING);
  soap *ctx = proxy.soap;
  mrm__CreatedMeterReadingsType message;
  message.Header = header(ctx);
  message.Payload = soap_new_mrm__MeterReadingsPayloadType(ctx);
  message.Payload->m__MeterReadings_ = readings(ctx);

  mrm__MeterReadingsResponseMessageType answer;
  int status = 1;
  if (proxy.PublishCreatedMeterReadings(&message, answer) == SOAP_OK)
    status = report(*answer.Payload->union_MeterReadingsResponsePayloadType.r__Receipt_);
  else if (ctx->fault && ctx->fault->detail && ctx->fault->detail->mrm__MeterReadingsFaultMessage)
    status = report(*ctx->fault->detail->mrm__MeterReadingsFaultMessage);
  else
    proxy.soap_stream_fault(std::cerr);
  proxy.destroy();
  return status;
}
