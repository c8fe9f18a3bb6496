// Node with xml-crypto: sign a CreatedMeterReadings, push it, verify the signed receipt.
// xml-crypto knows RSA; ECDSA as XML Signature has it (r and s, not DER) is the few lines of `Ecdsa`.

const crypto = require('crypto');
const fs = require('fs');
const { SignedXml } = require('xml-crypto');
const { DOMParser } = require('@xmldom/xmldom');

const env = (name) => process.env['GRIDPOST_' + name];
const wss = 'http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-';
const [wsse, wsu] = [wss + 'wssecurity-secext-1.0.xsd', wss + 'wssecurity-utility-1.0.xsd'];
const iec = 'http://iec.ch/TC57/2011';
const c14n = 'http://www.w3.org/2001/10/xml-exc-c14n#';
const sha256 = 'http://www.w3.org/2001/04/xmlenc#sha256';
const methods = { RSA: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256', EC: 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256' };
const body = '//*[local-name(.)="Body"]', time = '//*[local-name(.)="Timestamp" and namespace-uri(.)="' + wsu + '"]';

class Ecdsa {
  getAlgorithmName() { return methods.EC; }
  getSignature(info, key) { return crypto.sign('sha256', Buffer.from(info), { key, dsaEncoding: 'ieee-p1363' }).toString('base64'); }
  verifySignature(info, key, value) {
    return crypto.verify('sha256', Buffer.from(info), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(value, 'base64'));
  }
}

function signature(options) {
  const made = new SignedXml({ idMode: 'wssecurity', signatureAlgorithm: methods[env('FAMILY')], canonicalizationAlgorithm: c14n, ...options });
  made.SignatureAlgorithms[methods.EC] = Ecdsa;
  return made;
}

function message() {
  const token = fs.readFileSync(env('CERT'), 'ascii').replace(/-----[^-]+-----|\s/g, '');
  const header = `<h:Verb>created</h:Verb><h:Noun>MeterReadings</h:Noun><h:Timestamp>${env('NOW')}</h:Timestamp>`
    + `<h:Source>${env('SERIAL')}</h:Source><h:MessageID>${env('MESSAGE_ID')}</h:MessageID>`;
  const readings = `<IntervalBlocks><IntervalReadings><timeStamp>${env('END')}</timeStamp><value>1.5</value></IntervalReadings>`
    + `<ReadingType ref="${env('READING_TYPE')}"/></IntervalBlocks><Meter><mRID>${env('METER')}</mRID></Meter>`
    + `<UsagePoint><mRID>${env('USAGE_POINT')}</mRID></UsagePoint>`;
  const plain = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>'
    + `<w:Security xmlns:w="${wsse}" xmlns:u="${wsu}" s:mustUnderstand="1"><w:BinarySecurityToken u:Id="token" ValueType="${wss}`
    + `x509-token-profile-1.0#X509v3" EncodingType="${wss}soap-message-security-1.0#Base64Binary">${token}</w:BinarySecurityToken>`
    + `<u:Timestamp u:Id="time"><u:Created>${env('NOW')}</u:Created></u:Timestamp></w:Security></s:Header>`
    + `<s:Body xmlns:u="${wsu}" u:Id="body"><t:CreatedMeterReadings xmlns:t="${iec}/MeterReadingsMessage">`
    + `<t:Header xmlns:h="${iec}/schema/message">${header}</t:Header><t:Payload><MeterReadings xmlns="${iec}/MeterReadings#">`
    + `<MeterReading>${readings}</MeterReading></MeterReadings></t:Payload></t:CreatedMeterReadings></s:Body></s:Envelope>`;
  const signed = signature({
    privateKey: fs.readFileSync(env('KEY')),
    getKeyInfoContent: () => `<w:SecurityTokenReference xmlns:w="${wsse}"><w:Reference URI="#token" ValueType="${wss}x509-token-profile-1.0#X509v3"/></w:SecurityTokenReference>`,
  });
  for (const xpath of [body, time]) signed.addReference({ xpath, transforms: [c14n], digestAlgorithm: sha256 });
  signed.computeSignature(plain, { location: { reference: '//*[local-name(.)="Security"]', action: 'append' } });
  return signed.getSignedXml();
}

function receipt(raw) {
  const document = new DOMParser().parseFromString(raw, 'text/xml');
  const one = (name) => document.getElementsByTagNameNS('*', name)[0];
  const bus = new crypto.X509Certificate(Buffer.from(one('BinarySecurityToken').textContent, 'base64'));
  const issued = bus.verify(new crypto.X509Certificate(fs.readFileSync(env('BUS_CA'))).publicKey);
  if (!issued || !bus.keyUsage.includes('2.25.284392625550119026516274436571923214786')) return 'receipt refused: not of a bus we trust';
  const check = signature({ publicCert: bus.toString(), getCertFromKeyInfo: () => null });
  check.loadSignature(one('Signature'));
  let right = false;
  try { right = check.checkSignature(raw); } catch (error) { return `receipt refused: ${error.message.split('\n')[0].slice(0, 100)}`; }
  const signed = check.getSignedReferences(); // only what stands here was covered
  const told = signed.map((part) => new DOMParser().parseFromString(part, 'text/xml').documentElement);
  if (!right || told.length !== 2) return 'receipt refused: signature';
  const content = told.find((part) => part.localName === 'Body');
  return `receipt verified: entry ${content.getElementsByTagNameNS('urn:gridpost:receipt:1', 'seq')[0].textContent}`;
}

async function main() {
  const answer = await fetch(env('METERING'), {
    method: 'POST', body: message(),
    headers: { 'Content-Type': 'text/xml; charset=utf-8', SOAPAction: `"${iec}/MeterReadings/CreatedMeterReadings"` },
  });
  const raw = await answer.text();
  const fault = /<faultstring>([^<]*)/.exec(raw);
  console.log(fault ? `refused by the bus: ${fault[1]}` : receipt(raw));
  process.exitCode = fault ? 1 : 0;
}

main();
