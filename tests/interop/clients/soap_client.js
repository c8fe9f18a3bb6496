// npm soap: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is read.
// The CA of the bus's TLS comes by NODE_EXTRA_CA_CERTS.

const soap = require('soap');

const env = (name) => process.env['GRIDPOST_' + name];
const [, , mode, address] = process.argv;
const options = (values, period = {}) => ({
  Request: { ...period, Option: Object.entries(values).map(([name, value]) => ({ name, value })) },
});
const first = (one) => [].concat(one)[0]; // what repeats comes as a list only where it does
const result = (answer) => answer.Reply.Result;
const state = (answer) => first(answer.Payload.EndDeviceControls.EndDeviceControl).Instruction.state;

async function main() {
  const client = await soap.createClientAsync(mode === 'load' ? address : env('UTILITY') + '?wsdl');
  if (mode === 'load') return;
  client.setSecurity(new soap.WSSecurity(env('PARTNER'), env('PASSWORD')));

  async function call(name, verb, noun, read, parts = {}, label = name) {
    const header = { Verb: verb, Noun: noun, Timestamp: env('NOW'), Source: env('PARTNER'), MessageID: `${env('PARTNER')}-${label}` };
    try {
      const [answer] = await client[name + 'Async']({ Header: header, ...parts });
      console.log(`${label}: ${read(answer)}`);
    } catch (error) {
      const fault = error.root && error.root.Envelope.Body.Fault;
      if (!fault || !fault.detail) throw error;
      console.log(`${label}: ${first(Object.values(fault.detail)[0].Reply.Error).code}`);
    }
  }

  const own = env('PARTNER') + '-shed';
  const shed = { Payload: { EndDeviceControls: { EndDeviceControl: [{
    mRID: own, EndDeviceControlType: { attributes: { ref: '3.15.0.23' } }, EndDevices: [{ mRID: env('IED') }],
    Instruction: { output: 'load1' },
  }] } } };
  const channel = { readingType: '0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0', unit: 'kWh', intervalSeconds: 900, zone: 'Etc/UTC' };
  const meter = { Payload: { MeterConfig: { Meter: [{
    mRID: env('OWN_METER'), UsagePoint: { mRID: 'UP-' + env('OWN_METER') }, Channels: { ied: env('OWN_IED'), Channel: [channel] },
  }] } } };
  const period = { StartTime: env('START'), EndTime: env('NOW') };

  await call('QueryMeterReadings', 'get', 'MeterReadings',
    (answer) => first(first(first(answer.Payload.MeterReadings.MeterReading).IntervalBlocks).IntervalReadings).value,
    options({ usagePoint: env('USAGE_POINT') }));
  await call('RequestMeterReadings', 'create', 'MeterReadings', result, options({ meter: env('METER') }, period));
  await call('WithdrawMeterReadings', 'cancel', 'MeterReadings', result, { Request: { ID: [env('PARTNER') + '-RequestMeterReadings'] } });
  await call('QueryEndDeviceEvents', 'get', 'EndDeviceEvents',
    (answer) => first(answer.Payload.EndDeviceEvents.EndDeviceEvent).EndDeviceEventType.attributes.ref);
  await call('RequestEndDeviceControls', 'create', 'EndDeviceControls', state, shed);
  await call('QueryEndDeviceControls', 'get', 'EndDeviceControls', state, { Request: { ID: [own] } });
  await call('ReplaceEndDeviceControls', 'change', 'EndDeviceControls', state, shed);
  await call('WithdrawEndDeviceControls', 'cancel', 'EndDeviceControls', state, { Request: { ID: [own] } });
  await call('EnrolMeterConfig', 'create', 'MeterConfig', result, meter);
  await call('AmendMeterConfig', 'change', 'MeterConfig', result, meter);
  await call('QueryMeterConfig', 'get', 'MeterConfig',
    (answer) => first(first(answer.Payload.MeterConfig.Meter).Channels.Channel).unit, options({ meter: env('METER') }));
  await call('ReadMailbox', 'get', 'Mailbox', (answer) => answer.Payload.Mailbox.depth, options({ limit: '1' }));
  await call('CommitMailbox', 'delete', 'Mailbox', result, options({ upTo: '0' }));
  await call('QueryMeterReadings', 'get', 'MeterReadings', result, options({ usagePoint: 'UP-of-nobody' }), 'fault');
}

main().catch((error) => {
  console.error(String(error.message || error).split('\n')[0]);
  process.exitCode = 1;
});
