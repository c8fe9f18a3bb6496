#!/usr/bin/perl
# SOAP::Lite: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is read.
# What it makes of a WSDL is RPC-encoded, so the bodies are written here and it does the rest: header, transport, answer.

use strict;
use warnings;
use SOAP::Lite;

local $SIG{__WARN__} = sub { die @_ };
sub env { $ENV{"GRIDPOST_$_[0]"} }

if ($ARGV[0] eq 'load') {
    my $address = $ARGV[1] =~ /:/ ? $ARGV[1] : "file:$ARGV[1]";
    my $services = SOAP::Schema->new(schema_url => $address)->parse->services;
    exit(%$services ? 0 : 1);
}

if ($ARGV[0] eq 'wsdl') {    # what it makes of the WSDL by itself: shown, and refused
    my $service = SOAP::Lite->service($ENV{GRIDPOST_WSDL});
    $service->on_fault(sub { die $_[1]->faultstring, "\n" });
    $service->QueryMeterReadings(SOAP::Data->name('Header' => ''));
    exit;
}

my $iec = 'http://iec.ch/TC57/2011';
my $wsse = 'http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd';
my $token = SOAP::Header->type(xml => sprintf(
    '<w:Security xmlns:w="%s"><w:UsernameToken><w:Username>%s</w:Username><w:Password>%s</w:Password></w:UsernameToken></w:Security>',
    $wsse, env('PARTNER'), env('PASSWORD')));
my $client = SOAP::Lite->new(proxy => env('UTILITY'), readable => 0);
$client->transport->ssl_opts(SSL_ca_file => env('CA'));
$client->serializer->encodingStyle('');    # the bodies are literal
$client->on_fault(sub { $_[1] });

sub call {
    my ($label, $root, $space, $action, $verb, $noun, $parts, $read) = @_;
    my $header = sprintf('<h:Verb>%s</h:Verb><h:Noun>%s</h:Noun><h:Timestamp>%s</h:Timestamp><h:Source>%s</h:Source>'
        . '<h:MessageID>%s-%s</h:MessageID>', $verb, $noun, env('NOW'), env('PARTNER'), env('PARTNER'), $label);
    my $body = SOAP::Data->name("t:$root")->attr({ 'xmlns:t' => $space, 'xmlns:h' => "$iec/schema/message" });
    $client->on_action(sub { "\"$action/$root\"" });
    my $answer = $client->call($body, SOAP::Data->type(xml => "<t:Header>$header</t:Header>$parts"), $token);
    my $told = $answer->fault ? $answer->valueof('//detail//Error/code')
        : ref $read ? $read->($answer) : $answer->valueof("//$read");
    print "$label: ", $told // die($answer->faultstring), "\n";
}

sub request { "<t:Request>$_[0]</t:Request>" }
sub option { request("$_[2]<h:Option><h:name>$_[0]</h:name><h:value>$_[1]</h:value></h:Option>") }
sub id { request("<h:ID>$_[0]</h:ID>") }

my $own = env('PARTNER') . '-shed';
my $shed = "<t:Payload><EndDeviceControls xmlns=\"$iec/EndDeviceControls#\"><EndDeviceControl><mRID>$own</mRID>"
    . '<EndDeviceControlType ref="3.15.0.23"/><EndDevices><mRID>' . env('IED') . '</mRID></EndDevices>'
    . '<Instruction xmlns="urn:gridpost:control:1"><output>load1</output></Instruction>'
    . '</EndDeviceControl></EndDeviceControls></t:Payload>';
my $meter = "<t:Payload><MeterConfig xmlns=\"$iec/MeterConfig#\"><Meter><mRID>" . env('OWN_METER') . '</mRID><UsagePoint><mRID>UP-'
    . env('OWN_METER') . '</mRID></UsagePoint><Channels xmlns="urn:gridpost:channels:1"><ied>' . env('OWN_IED')
    . '</ied><Channel><readingType>0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0</readingType><unit>kWh</unit>'
    . '<intervalSeconds>900</intervalSeconds><zone>Etc/UTC</zone></Channel></Channels></Meter></MeterConfig></t:Payload>';
my $period = '<h:StartTime>' . env('START') . '</h:StartTime><h:EndTime>' . env('NOW') . '</h:EndTime>';
my %space = map { $_ => "$iec/${_}Message" } qw(MeterReadings EndDeviceEvents EndDeviceControls MeterConfig);
my $state = 'EndDeviceControl/Instruction/state';
my $mailbox = 'urn:gridpost:mailbox:1';

call('QueryMeterReadings', 'GetMeterReadings', $space{MeterReadings}, "$iec/GetMeterReadings", 'get', 'MeterReadings',
    option('usagePoint', env('USAGE_POINT'), ''), 'IntervalReadings/value');
call('RequestMeterReadings', 'CreateMeterReadings', $space{MeterReadings}, "$iec/MeterReadings", 'create', 'MeterReadings',
    option('meter', env('METER'), $period), 'Result');
call('WithdrawMeterReadings', 'CancelMeterReadings', $space{MeterReadings}, "$iec/MeterReadings", 'cancel', 'MeterReadings',
    id(env('PARTNER') . '-RequestMeterReadings'), 'Result');
call('QueryEndDeviceEvents', 'GetEndDeviceEvents', $space{EndDeviceEvents}, "$iec/GetEndDeviceEvents", 'get', 'EndDeviceEvents',
    '', sub { $_[0]->dataof('//EndDeviceEventType')->attr->{ref} });
call('RequestEndDeviceControls', 'CreateEndDeviceControls', $space{EndDeviceControls}, "$iec/EndDeviceControls", 'create',
    'EndDeviceControls', $shed, $state);
call('QueryEndDeviceControls', 'GetEndDeviceControls', $space{EndDeviceControls}, "$iec/GetEndDeviceControls", 'get',
    'EndDeviceControls', id($own), $state);
call('ReplaceEndDeviceControls', 'ChangeEndDeviceControls', $space{EndDeviceControls}, "$iec/EndDeviceControls", 'change',
    'EndDeviceControls', $shed, $state);
call('WithdrawEndDeviceControls', 'CancelEndDeviceControls', $space{EndDeviceControls}, "$iec/EndDeviceControls", 'cancel',
    'EndDeviceControls', id($own), $state);
call('EnrolMeterConfig', 'CreateMeterConfig', $space{MeterConfig}, "$iec/MeterConfig", 'create', 'MeterConfig', $meter, 'Result');
call('AmendMeterConfig', 'ChangeMeterConfig', $space{MeterConfig}, "$iec/MeterConfig", 'change', 'MeterConfig', $meter, 'Result');
call('QueryMeterConfig', 'GetMeterConfig', $space{MeterConfig}, "$iec/GetMeterConfig", 'get', 'MeterConfig',
    option('meter', env('METER'), ''), 'Channel/unit');
call('ReadMailbox', 'PeekMailbox', $mailbox, $mailbox, 'get', 'Mailbox', option('limit', '1', ''), 'Mailbox/depth');
call('CommitMailbox', 'DequeueMailbox', $mailbox, $mailbox, 'delete', 'Mailbox', option('upTo', '0', ''), 'Result');
call('fault', 'GetMeterReadings', $space{MeterReadings}, "$iec/GetMeterReadings", 'get', 'MeterReadings',
    option('usagePoint', 'UP-of-nobody', ''), 'Result');
