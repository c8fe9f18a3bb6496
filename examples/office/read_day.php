<?php // Ten lines of PHP: the day of a usage point. `php examples/office/read_day.php`, in the folder of the walk.
$wsse = 'http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd';
$token = '<w:Security xmlns:w="' . $wsse . '"><w:UsernameToken><w:Username>GRID-CO</w:Username><w:Password>'
    . trim(file_get_contents('password.txt')) . '</w:Password></w:UsernameToken></w:Security>';
$client = new SoapClient('https://127.0.0.1:8444/utility?wsdl', ['cache_wsdl' => WSDL_CACHE_NONE,
    'features' => SOAP_SINGLE_ELEMENT_ARRAYS, 'stream_context' => stream_context_create(['ssl' => ['cafile' => 'tls-ca.pem']])]);
$client->__setSoapHeaders(new SoapHeader($wsse, 'Security', new SoapVar($token, XSD_ANYXML)));
$header = ['Verb' => 'get', 'Noun' => 'MeterReadings', 'Source' => 'GRID-CO', 'MessageID' => uniqid(), 'Timestamp' => gmdate('c')];
$request = ['StartTime' => '2025-02-28T23:00:00Z', 'EndTime' => '2025-03-01T23:00:00Z', 'Option' => [['name' => 'usagePoint', 'value' => 'UP-7']]];
$answer = $client->QueryMeterReadings(['Header' => $header, 'Request' => $request]);
$values = array_column($answer->Payload->MeterReadings->MeterReading[0]->IntervalBlocks[0]->IntervalReadings, 'value');
printf("%d quarter hours, %.3f kWh\n", count($values), array_sum($values));
