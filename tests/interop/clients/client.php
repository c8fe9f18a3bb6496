<?php
// PHP SoapClient: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is read.

set_error_handler(function ($level, $text) { throw new ErrorException($text); });
ini_set('soap.wsdl_cache_enabled', '0');

function env(string $name): string { return getenv("GRIDPOST_$name"); }

$tls = stream_context_create(['ssl' => ['cafile' => env('CA')]]);
$load = $argv[1] === 'load';
$client = new SoapClient($load ? $argv[2] : env('UTILITY') . '?wsdl', [
    'stream_context' => $tls, 'exceptions' => true, 'features' => SOAP_SINGLE_ELEMENT_ARRAYS,
]);
if ($load) {
    exit(count($client->__getFunctions()) > 0 ? 0 : 1);
}
$wsse = 'http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd';
$token = sprintf('<w:Security xmlns:w="%s"><w:UsernameToken><w:Username>%s</w:Username><w:Password>%s</w:Password>'
    . '</w:UsernameToken></w:Security>', $wsse, env('PARTNER'), env('PASSWORD'));
$client->__setSoapHeaders(new SoapHeader($wsse, 'Security', new SoapVar($token, XSD_ANYXML)));

function call(string $name, string $verb, string $noun, callable $read, array $parts = [], string $label = ''): void {
    global $client;
    $label = $label ?: $name;
    $header = ['Verb' => $verb, 'Noun' => $noun, 'Timestamp' => env('NOW'), 'Source' => env('PARTNER'),
               'MessageID' => env('PARTNER') . "-$label"];
    try {
        $read_out = $read($client->__soapCall($name, [["Header" => $header] + $parts]));
        echo "$label: $read_out\n";
    } catch (SoapFault $fault) {
        $error = current(get_object_vars($fault->detail))->Reply->Error;
        echo "$label: ", (is_array($error) ? $error[0] : $error)->code, "\n";
    }
}

function options(array $values, array $period = []): array {
    $made = array_map(fn($name, $value) => ['name' => $name, 'value' => $value], array_keys($values), $values);
    return ['Request' => $period + ['Option' => $made]];
}

$result = fn($answer) => $answer->Reply->Result;
$state = fn($answer) => $answer->Payload->EndDeviceControls->EndDeviceControl[0]->Instruction->state;
$value = fn($answer) => $answer->Payload->MeterReadings->MeterReading[0]->IntervalBlocks[0]->IntervalReadings[0]->value;
$own = env('PARTNER') . '-shed';
$shed = ['Payload' => ['EndDeviceControls' => ['EndDeviceControl' => [[
    'mRID' => $own, 'EndDeviceControlType' => ['ref' => '3.15.0.23'], 'EndDevices' => [['mRID' => env('IED')]],
    'Instruction' => ['output' => 'load1'],
]]]]];
$channel = ['readingType' => '0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0', 'unit' => 'kWh', 'intervalSeconds' => 900, 'zone' => 'Etc/UTC'];
$meter = ['Payload' => ['MeterConfig' => ['Meter' => [[
    'mRID' => env('OWN_METER'), 'UsagePoint' => ['mRID' => 'UP-' . env('OWN_METER')],
    'Channels' => ['ied' => env('OWN_IED'), 'Channel' => [$channel]],
]]]]];
$period = ['StartTime' => env('START'), 'EndTime' => env('NOW')];

call('QueryMeterReadings', 'get', 'MeterReadings', $value, options(['usagePoint' => env('USAGE_POINT')]));
call('RequestMeterReadings', 'create', 'MeterReadings', $result, options(['meter' => env('METER')], $period));
call('WithdrawMeterReadings', 'cancel', 'MeterReadings', $result, ['Request' => ['ID' => [env('PARTNER') . '-RequestMeterReadings']]]);
call('QueryEndDeviceEvents', 'get', 'EndDeviceEvents',
    fn($answer) => $answer->Payload->EndDeviceEvents->EndDeviceEvent[0]->EndDeviceEventType->ref);
call('RequestEndDeviceControls', 'create', 'EndDeviceControls', $state, $shed);
call('QueryEndDeviceControls', 'get', 'EndDeviceControls', $state, ['Request' => ['ID' => [$own]]]);
call('ReplaceEndDeviceControls', 'change', 'EndDeviceControls', $state, $shed);
call('WithdrawEndDeviceControls', 'cancel', 'EndDeviceControls', $state, ['Request' => ['ID' => [$own]]]);
call('EnrolMeterConfig', 'create', 'MeterConfig', $result, $meter);
call('AmendMeterConfig', 'change', 'MeterConfig', $result, $meter);
call('QueryMeterConfig', 'get', 'MeterConfig',
    fn($answer) => $answer->Payload->MeterConfig->Meter[0]->Channels->Channel[0]->unit, options(['meter' => env('METER')]));
call('ReadMailbox', 'get', 'Mailbox', fn($answer) => $answer->Payload->Mailbox->depth, options(['limit' => '1']));
call('CommitMailbox', 'delete', 'Mailbox', $result, options(['upTo' => '0']));
call('QueryMeterReadings', 'get', 'MeterReadings', $result, options(['usagePoint' => 'UP-of-nobody']), 'fault');
