// npm strong-soap: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is
// read. The CA of the bus's TLS comes by NODE_EXTRA_CA_CERTS.

const { soap, WSSecurity } = require('strong-soap');
const { promisify } = require('util');

const env = (name) => process.env['GRIDPOST_' + name];
const [, , mode, address] = process.argv;
const first = (one) => [].concat(one)[0]; // what repeats comes as a list only where it does
const options = (values, period = {}) => ({
  Request: { ...period, Option: Object.entries(values).map(([name, value]) => ({ name, value })) },
});
const result = (answer) => answer.Reply.Result;
const state = (answer) => first(answer.Payload.EndDeviceControls.EndDeviceControl).Instruction.state;

async function main() {
  const client = await promisify(soap.createClient)(mode === 'load' ? address : env('UTILITY') + '?wsdl', {});
  if (mode === 'load') return;
  client.setSecurity(new WSSecurity(env('PARTNER'), env('PASSWORD')));

  async function call(name, verb, noun, root, read, parts = {}, label = name) {
    const header = { Verb: verb, Noun: noun, Timestamp: env('NOW'), Source: env('PARTNER'), MessageID: `${env('PARTNER')}-${label}` };
    try {
      const { result: answer } = await client[name]({ [root]: { Header: header, ...parts } });
      console.log(`${label}: ${read(answer)}`);
    } catch (error) {
      const fault = error.root && error.root.Envelope.Body.Fault;
      if (!fault || !fault.detail) throw error;
      console.log(`${label}: ${first(Object.values(fault.detail)[0].Reply.Error).code}`);
    }
  }

  const own = env('PARTNER') + '-shed';
  const shed = { Payload: { EndDeviceControls: { EndDeviceControl: [{
    mRID: own, EndDeviceControlType: { $attributes: { ref: '3.15.0.23' } }, EndDevices: [{ mRID: env('IED') }],
    Instruction: { output: 'load1' },
  }] } } };
  const channel = { readingType: '0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0', unit: 'kWh', intervalSeconds: 900, zone: 'Etc/UTC' };
  const meter = { Payload: { MeterConfig: { Meter: [{
    mRID: env('OWN_METER'), UsagePoint: { mRID: 'UP-' + env('OWN_METER') }, Channels: { ied: env('OWN_IED'), Channel: [channel] },
  }] } } };
  const period = { StartTime: env('START'), EndTime: env('NOW') };

  await call('QueryMeterReadings', 'get', 'MeterReadings', 'GetMeterReadings',
    (answer) => first(first(first(answer.Payload.MeterReadings.MeterReading).IntervalBlocks).IntervalReadings).value,
    options({ usagePoint: env('USAGE_POINT') }));
  await call('RequestMeterReadings', 'create', 'MeterReadings', 'CreateMeterReadings', result, options({ meter: env('METER') }, period));
  await call('WithdrawMeterReadings', 'cancel', 'MeterReadings', 'CancelMeterReadings', result,
    { Request: { ID: [env('PARTNER') + '-RequestMeterReadings'] } });
  await call('QueryEndDeviceEvents', 'get', 'EndDeviceEvents', 'GetEndDeviceEvents',
    (answer) => first(answer.Payload.EndDeviceEvents.EndDeviceEvent).EndDeviceEventType.$attributes.ref);
  await call('RequestEndDeviceControls', 'create', 'EndDeviceControls', 'CreateEndDeviceControls', state, shed);
  await call('QueryEndDeviceControls', 'get', 'EndDeviceControls', 'GetEndDeviceControls', state, { Request: { ID: [own] } });
  await call('ReplaceEndDeviceControls', 'change', 'EndDeviceControls', 'ChangeEndDeviceControls', state, shed);
  await call('WithdrawEndDeviceControls', 'cancel', 'EndDeviceControls', 'CancelEndDeviceControls', state, { Request: { ID: [own] } });
  await call('EnrolMeterConfig', 'create', 'MeterConfig', 'CreateMeterConfig', result, meter);
  await call('AmendMeterConfig', 'change', 'MeterConfig', 'ChangeMeterConfig', result, meter);
  await call('QueryMeterConfig', 'get', 'MeterConfig', 'GetMeterConfig',
    (answer) => first(first(answer.Payload.MeterConfig.Meter).Channels.Channel).unit, options({ meter: env('METER') }));
  await call('ReadMailbox', 'get', 'Mailbox', 'PeekMailbox', (answer) => answer.Payload.Mailbox.depth, options({ limit: '1' }));
  await call('CommitMailbox', 'delete', 'Mailbox', 'DequeueMailbox', result, options({ upTo: '0' }));
  await call('QueryMeterReadings', 'get', 'MeterReadings', 'GetMeterReadings', result, options({ usagePoint: 'UP-of-nobody' }), 'fault');
}

main().catch((error) => {
  console.error(String(error.message || error).split('\n')[0]);
  process.exitCode = 1;
});
