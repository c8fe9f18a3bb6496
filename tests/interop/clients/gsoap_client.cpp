// gSOAP: calls every operation of utility.wsdl with a UsernameToken over TLS, through the proxy that it made, and prints
// what is read. WS-Security comes of its plugin wsseapi.

#include <cstdlib>
#include <functional>
#include <iostream>

#include "UtilityBinding.nsmap"
#include "soapUtilityBindingProxy.h"
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

static msg__HeaderType *header(msg__VerbType verb, const std::string &noun, const std::string &name) {
  msg__HeaderType *made = soap_new_msg__HeaderType(ctx);
  made->Verb = verb;
  made->Noun = noun;
  made->Timestamp = moment("NOW");
  made->Source = text(env("PARTNER"));
  made->MessageID = text(env("PARTNER") + "-" + name);
  return made;
}

static msg__RequestType *option(const std::string &name, const std::string &value) {
  msg__RequestOptionType *option = soap_new_msg__RequestOptionType(ctx);
  option->name = name;
  option->value = text(value);
  msg__RequestType *made = soap_new_msg__RequestType(ctx);
  made->Option.push_back(option);
  return made;
}

static msg__RequestType *id(const std::string &value) {
  msg__RequestType *made = soap_new_msg__RequestType(ctx);
  made->ID.push_back(value);
  return made;
}

static edcm__EndDeviceControlsPayloadType *shed() {
  d__EndDeviceControl *control = soap_new_d__EndDeviceControl(ctx);
  control->mRID = text(env("PARTNER") + "-shed");
  control->EndDeviceControlType = soap_new_d__EndDeviceControlTypeReference(ctx);
  control->EndDeviceControlType->ref = "3.15.0.23";
  control->EndDevices.push_back(soap_new_d__ControlDevice(ctx));
  control->EndDevices[0]->mRID = env("IED");
  control->c__Instruction_ = soap_new_c__Instruction(ctx);
  control->c__Instruction_->output = text("load1");
  edcm__EndDeviceControlsPayloadType *made = soap_new_edcm__EndDeviceControlsPayloadType(ctx);
  made->d__EndDeviceControls_ = soap_new_d__EndDeviceControls(ctx);
  made->d__EndDeviceControls_->EndDeviceControl.push_back(control);
  return made;
}

static mcm__MeterConfigPayloadType *meter() {
  ch__MeterChannel *channel = soap_new_ch__MeterChannel(ctx);
  channel->readingType = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0";
  channel->unit = "kWh";
  channel->intervalSeconds = 900;
  channel->zone = "Etc/UTC";
  mc__ConfigMeter *meter = soap_new_mc__ConfigMeter(ctx);
  meter->mRID = env("OWN_METER");
  meter->UsagePoint = soap_new_mc__ConfigUsagePoint(ctx);
  meter->UsagePoint->mRID = "UP-" + env("OWN_METER");
  meter->ch__Channels = soap_new_ch__ChannelSet(ctx);
  meter->ch__Channels->ied = text(env("OWN_IED"));
  meter->ch__Channels->Channel.push_back(channel);
  mcm__MeterConfigPayloadType *made = soap_new_mcm__MeterConfigPayloadType(ctx);
  made->mc__MeterConfig_ = soap_new_mc__MeterConfig(ctx);
  made->mc__MeterConfig_->Meter.push_back(meter);
  return made;
}

static UtilityBindingProxy *proxy;

// Sends one request with the token and prints what `read` makes of the answer, or the code of the typed fault.
template <class Request, class Answer, class Call, class Read>
static void call(const std::string &name, msg__VerbType verb, const std::string &noun, Request request, Answer answer,
                 Call send, Read read) {
  request.Header = header(verb, noun, name);
  soap_wsse_delete_Security(ctx);
  soap_wsse_add_UsernameTokenText(ctx, nullptr, env("PARTNER").c_str(), env("PASSWORD").c_str());
  std::cout << name << ": ";
  if ((proxy->*send)(&request, answer) == SOAP_OK)
    std::cout << read(answer) << std::endl;
  else if (ctx->fault && ctx->fault->detail && ctx->fault->detail->mrm__MeterReadingsFaultMessage)
    std::cout << ctx->fault->detail->mrm__MeterReadingsFaultMessage->Reply->Error.at(0)->code << std::endl;
  else {
    proxy->soap_stream_fault(std::cerr);
    std::exit(1);
  }
}

template <class Answer>
static std::string result(const Answer &answer) {
  return soap_msg__ResultType2s(ctx, answer.Reply->Result);
}

static std::string state(const edcm__EndDeviceControlsResponseMessageType &answer) {
  auto *told = answer.Payload->union_EndDeviceControlsResponsePayloadType.d__EndDeviceControls_;
  return *told->EndDeviceControl.at(0)->c__Instruction_->state;
}

static std::string value(const mrm__MeterReadingsResponseMessageType &answer) {
  auto *told = answer.Payload->union_MeterReadingsResponsePayloadType.m__MeterReadings_;
  return *told->MeterReading.at(0)->IntervalBlocks.at(0)->IntervalReadings.at(0)->value;
}

int main() {
  const std::string endpoint = env("UTILITY"), ca = env("CA"), own = env("PARTNER") + "-shed";
  UtilityBindingProxy made(endpoint.c_str(), SOAP_XML_STRICT | SOAP_C_UTFSTRING);
  proxy = &made;
  ctx = made.soap;
  soap_register_plugin(ctx, soap_wsse);
  if (soap_ssl_client_context(ctx, SOAP_SSL_DEFAULT, nullptr, nullptr, ca.c_str(), nullptr, nullptr)) return 1;

  mrm__GetMeterReadingsType readings, nobody;
  readings.Request = option("usagePoint", env("USAGE_POINT"));
  nobody.Request = option("usagePoint", "UP-of-nobody");
  mrm__CreateMeterReadingsType again;
  again.Request = option("meter", env("METER"));
  again.Request->StartTime = moment("START");
  again.Request->EndTime = moment("NOW");
  mrm__CancelMeterReadingsType taken_back;
  taken_back.Request = id(env("PARTNER") + "-RequestMeterReadings");
  edcm__CreateEndDeviceControlsType create;
  create.Payload = shed();
  edcm__ChangeEndDeviceControlsType change;
  change.Payload = shed();
  edcm__GetEndDeviceControlsType get;
  get.Request = id(own);
  edcm__CancelEndDeviceControlsType cancel;
  cancel.Request = id(own);
  mcm__CreateMeterConfigType enrol;
  enrol.Payload = meter();
  mcm__ChangeMeterConfigType amend;
  amend.Payload = meter();
  mcm__GetMeterConfigType meters;
  meters.Request = option("meter", env("METER"));
  mb__PeekMailboxType peek;
  peek.Request = option("limit", "1");
  mb__DequeueMailboxType commit;
  commit.Request = option("upTo", "0");
  using Readings = mrm__MeterReadingsResponseMessageType;
  using Controls = edcm__EndDeviceControlsResponseMessageType;
  using Meters = mcm__MeterConfigResponseMessageType;
  using Mails = mb__MailboxResponseMessageType;
  using Proxy = UtilityBindingProxy;

  call("QueryMeterReadings", msg__VerbType__get, "MeterReadings", readings, Readings(),
       (int(Proxy::*)(mrm__GetMeterReadingsType *, Readings &)) & Proxy::QueryMeterReadings, value);
  call("RequestMeterReadings", msg__VerbType__create, "MeterReadings", again, Readings(),
       (int(Proxy::*)(mrm__CreateMeterReadingsType *, Readings &)) & Proxy::RequestMeterReadings, result<Readings>);
  call("WithdrawMeterReadings", msg__VerbType__cancel, "MeterReadings", taken_back, Readings(),
       (int(Proxy::*)(mrm__CancelMeterReadingsType *, Readings &)) & Proxy::WithdrawMeterReadings, result<Readings>);
  call("QueryEndDeviceEvents", msg__VerbType__get, "EndDeviceEvents", edem__GetEndDeviceEventsType(),
       edem__EndDeviceEventsResponseMessageType(),
       (int(Proxy::*)(edem__GetEndDeviceEventsType *, edem__EndDeviceEventsResponseMessageType &)) & Proxy::QueryEndDeviceEvents,
       [](const edem__EndDeviceEventsResponseMessageType &answer) {
         auto *told = answer.Payload->union_EndDeviceEventsResponsePayloadType.e__EndDeviceEvents_;
         return told->EndDeviceEvent.at(0)->EndDeviceEventType->ref;
       });
  call("RequestEndDeviceControls", msg__VerbType__create, "EndDeviceControls", create, Controls(),
       (int(Proxy::*)(edcm__CreateEndDeviceControlsType *, Controls &)) & Proxy::RequestEndDeviceControls, state);
  call("QueryEndDeviceControls", msg__VerbType__get, "EndDeviceControls", get, Controls(),
       (int(Proxy::*)(edcm__GetEndDeviceControlsType *, Controls &)) & Proxy::QueryEndDeviceControls, state);
  call("ReplaceEndDeviceControls", msg__VerbType__change, "EndDeviceControls", change, Controls(),
       (int(Proxy::*)(edcm__ChangeEndDeviceControlsType *, Controls &)) & Proxy::ReplaceEndDeviceControls, state);
  call("WithdrawEndDeviceControls", msg__VerbType__cancel, "EndDeviceControls", cancel, Controls(),
       (int(Proxy::*)(edcm__CancelEndDeviceControlsType *, Controls &)) & Proxy::WithdrawEndDeviceControls, state);
  call("EnrolMeterConfig", msg__VerbType__create, "MeterConfig", enrol, Meters(),
       (int(Proxy::*)(mcm__CreateMeterConfigType *, Meters &)) & Proxy::EnrolMeterConfig, result<Meters>);
  call("AmendMeterConfig", msg__VerbType__change, "MeterConfig", amend, Meters(),
       (int(Proxy::*)(mcm__ChangeMeterConfigType *, Meters &)) & Proxy::AmendMeterConfig, result<Meters>);
  call("QueryMeterConfig", msg__VerbType__get, "MeterConfig", meters, Meters(),
       (int(Proxy::*)(mcm__GetMeterConfigType *, Meters &)) & Proxy::QueryMeterConfig, [](const Meters &answer) {
         auto *told = answer.Payload->union_MeterConfigResponsePayloadType.mc__MeterConfig_;
         return told->Meter.at(0)->ch__Channels->Channel.at(0)->unit;
       });
  call("ReadMailbox", msg__VerbType__get, "Mailbox", peek, Mails(),
       (int(Proxy::*)(mb__PeekMailboxType *, Mails &)) & Proxy::ReadMailbox,
       [](const Mails &answer) { return answer.Payload->union_MailboxResponsePayloadType.Mailbox->depth; });
  call("CommitMailbox", msg__VerbType__delete_, "Mailbox", commit, Mails(),
       (int(Proxy::*)(mb__DequeueMailboxType *, Mails &)) & Proxy::CommitMailbox, result<Mails>);
  call("fault", msg__VerbType__get, "MeterReadings", nobody, Readings(),
       (int(Proxy::*)(mrm__GetMeterReadingsType *, Readings &)) & Proxy::QueryMeterReadings, value);
  made.destroy();
  return 0;
}
