// gSOAP with its plugin wsseapi: sign a CreatedMeterReadings, push it, verify the signed receipt.

#include <cstdlib>
#include <iostream>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "MeteringBinding.nsmap"
#include "soapMeteringBindingProxy.h"
#include "wsseapi.h"

static std::string env(const std::string &name) { return std::getenv(("GRIDPOST_" + name).c_str()); }

static soap *ctx;

static std::string *text(const std::string &value) {
  std::string *place = soap_new_std__string(ctx);
  *place = value;
  return place;
}

static time_t *moment(const std::string &name) {
  time_t *place = static_cast<time_t *>(soap_malloc(ctx, sizeof(time_t)));
  soap_s2dateTime(ctx, env(name).c_str(), place);
  return place;
}

template <class Object, class Reader>
static Object *read_pem(const std::string &name, Reader reader) {
  FILE *file = std::fopen(env(name).c_str(), "r");
  Object *made = reader(file, nullptr, nullptr, nullptr);
  std::fclose(file);
  return made;
}

static void fill(mrm__CreatedMeterReadingsType &message) {
  message.Header = soap_new_msg__HeaderType(ctx);
  message.Header->Verb = msg__VerbType__created;
  message.Header->Noun = "MeterReadings";
  message.Header->Timestamp = moment("NOW");
  message.Header->Source = text(env("SERIAL"));
  message.Header->MessageID = text(env("MESSAGE_ID"));
  m__IntervalReading *value = soap_new_m__IntervalReading(ctx);
  value->timeStamp = moment("END");
  value->value = text("1.5");
  m__IntervalBlock *block = soap_new_m__IntervalBlock(ctx);
  block->IntervalReadings.push_back(value);
  block->ReadingType = soap_new_m__ReadingTypeReference(ctx);
  block->ReadingType->ref = env("READING_TYPE");
  m__MeterReading *reading = soap_new_m__MeterReading(ctx);
  reading->IntervalBlocks.push_back(block);
  reading->Meter = soap_new_m__Meter(ctx);
  reading->Meter->mRID = text(env("METER"));
  reading->UsagePoint = soap_new_m__ReadingUsagePoint(ctx);
  reading->UsagePoint->mRID = text(env("USAGE_POINT"));
  message.Payload = soap_new_mrm__MeterReadingsPayloadType(ctx);
  message.Payload->m__MeterReadings_ = soap_new_m__MeterReadings(ctx);
  message.Payload->m__MeterReadings_->MeterReading.push_back(reading);
}

// Whether a certificate has the key usage of a bus.
static bool is_bus(X509 *certificate) {
  auto *usages = static_cast<EXTENDED_KEY_USAGE *>(X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr));
  char name[80];
  for (int index = 0; usages && index < sk_ASN1_OBJECT_num(usages); ++index) {
    OBJ_obj2txt(name, sizeof name, sk_ASN1_OBJECT_value(usages, index), 1);
    if (std::string(name) == "2.25.284392625550119026516274436571923214786") return true;
  }
  return false;
}

int main() {
  const std::string endpoint = env("METERING"), ca = env("BUS_CA");
  MeteringBindingProxy proxy(endpoint.c_str(), SOAP_XML_CANONICAL | SOAP_C_UTFSTRING);
  ctx = proxy.soap;
  soap_ssl_init();
  soap_register_plugin(ctx, soap_wsse);
  ctx->cafile = ca.c_str();  // receipts must come from a certificate of this CA

  EVP_PKEY *key = read_pem<EVP_PKEY>("KEY", PEM_read_PrivateKey);
  X509 *certificate = read_pem<X509>("CERT", PEM_read_X509);
  soap_wsse_add_Timestamp(ctx, "Time", 600);
  soap_wsse_add_BinarySecurityTokenX509(ctx, "X509Token", certificate);
  soap_wsse_add_KeyInfo_SecurityTokenReferenceX509(ctx, "#X509Token");
  const bool is_rsa = env("FAMILY") == "RSA";
  soap_wsse_sign_body(ctx, is_rsa ? SOAP_SMD_SIGN_RSA_SHA256 : SOAP_SMD_SIGN_ECDSA_SHA256, key, 0);
  soap_wsse_verify_auto(ctx, SOAP_SMD_NONE, nullptr, 0);

  mrm__CreatedMeterReadingsType message;
  fill(message);
  mrm__MeterReadingsResponseMessageType answer;
  const int failed = proxy.PublishCreatedMeterReadings(&message, answer);
  if (failed && ctx->fault && ctx->fault->faultcode && ctx->header == nullptr) {
    std::cout << "refused by the bus: " << ctx->fault->faultstring << std::endl;
    return 1;
  }
  X509 *bus = soap_wsse_get_BinarySecurityTokenX509(ctx, "token");
  if (failed || soap_wsse_verify_body(ctx) || soap_wsse_verify_Timestamp(ctx) || !bus || !is_bus(bus)) {
    const char *why = soap_fault_string(ctx);
    std::cout << "receipt refused: " << (why ? why : "not of a bus") << std::endl;
    return 0;
  }
  const auto *receipt = answer.Payload->union_MeterReadingsResponsePayloadType.r__Receipt_;
  std::cout << "receipt verified: entry " << receipt->seq << std::endl;
  return 0;
}
