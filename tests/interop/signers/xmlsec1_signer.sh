#!/bin/bash
# xmlsec1, openssl and curl: sign a CreatedMeterReadings, push it, verify the signed receipt.
set -eu

utility=http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd
wsse=http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd
x509=http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3
base64=http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary
ds=http://www.w3.org/2000/09/xmldsig#
c14n=http://www.w3.org/2001/10/xml-exc-c14n#
soap=http://schemas.xmlsoap.org/soap/envelope/
iec=http://iec.ch/TC57/2011
algorithm=http://www.w3.org/2001/04/xmldsig-more#rsa-sha256
[ "$GRIDPOST_FAMILY" = EC ] && algorithm=http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

reference() {
    echo "<Reference URI=\"#$1\"><Transforms><Transform Algorithm=\"$c14n\"/></Transforms><DigestMethod" \
        "Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><DigestValue/></Reference>"
}

# The Security header with an empty signature; xmlsec1 fills in the values.
cat > "$work/template.xml" <<END
<s:Envelope xmlns:s="$soap"><s:Header><w:Security xmlns:w="$wsse" xmlns:u="$utility" s:mustUnderstand="1">
<w:BinarySecurityToken u:Id="token" ValueType="$x509" EncodingType="$base64">$(grep -v -e ----- "$GRIDPOST_CERT")</w:BinarySecurityToken>
<u:Timestamp u:Id="time"><u:Created>$GRIDPOST_NOW</u:Created></u:Timestamp>
<Signature xmlns="$ds"><SignedInfo><CanonicalizationMethod Algorithm="$c14n"/><SignatureMethod Algorithm="$algorithm"/>$(reference body)$(reference time)</SignedInfo>
<SignatureValue/><KeyInfo><w:SecurityTokenReference><w:Reference URI="#token" ValueType="$x509"/></w:SecurityTokenReference></KeyInfo></Signature>
</w:Security></s:Header><s:Body xmlns:u="$utility" u:Id="body"><t:CreatedMeterReadings xmlns:t="$iec/MeterReadingsMessage">
<t:Header xmlns:h="$iec/schema/message"><h:Verb>created</h:Verb><h:Noun>MeterReadings</h:Noun><h:Timestamp>$GRIDPOST_NOW</h:Timestamp><h:Source>$GRIDPOST_SERIAL</h:Source><h:MessageID>$GRIDPOST_MESSAGE_ID</h:MessageID></t:Header>
<t:Payload><MeterReadings xmlns="$iec/MeterReadings#"><MeterReading><IntervalBlocks><IntervalReadings><timeStamp>$GRIDPOST_END</timeStamp><value>1.5</value></IntervalReadings><ReadingType ref="$GRIDPOST_READING_TYPE"/></IntervalBlocks><Meter><mRID>$GRIDPOST_METER</mRID></Meter><UsagePoint><mRID>$GRIDPOST_USAGE_POINT</mRID></UsagePoint></MeterReading></MeterReadings></t:Payload>
</t:CreatedMeterReadings></s:Body></s:Envelope>
END
ids=(--id-attr:Id "$soap:Body" --id-attr:Id "$utility:Timestamp")
xmlsec1 --sign --privkey-pem "$GRIDPOST_KEY" "${ids[@]}" --output "$work/message.xml" "$work/template.xml"

curl -sS --noproxy '*' -H 'Content-Type: text/xml; charset=utf-8' -H "SOAPAction: \"$iec/MeterReadings/CreatedMeterReadings\"" \
    --data-binary "@$work/message.xml" -o "$work/answer.xml" "$GRIDPOST_METERING"
if grep -q '<soap:Fault>' "$work/answer.xml"; then
    sed 's|.*<faultstring>\(.*\)</faultstring>.*|refused by the bus: \1|' "$work/answer.xml"
    exit 1
fi

# The receipt: its certificate is a bus's of the CA we trust; Body and Timestamp are what was signed; the values are right.
{ echo '-----BEGIN CERTIFICATE-----'; sed 's|.*<wsse:BinarySecurityToken[^>]*>\([^<]*\)<.*|\1|' "$work/answer.xml" | fold -w 64; echo; echo '-----END CERTIFICATE-----'; } > "$work/bus.pem"
openssl verify -CAfile "$GRIDPOST_BUS_CA" "$work/bus.pem" > /dev/null
openssl x509 -in "$work/bus.pem" -noout -ext extendedKeyUsage 2>/dev/null | grep -q 2.25.284392625550119026516274436571923214786
[ "$(grep -o 'Reference URI="#[a-z]*"><ds:Transforms>' "$work/answer.xml" | grep -c -e '#body"' -e '#time"')" = 2 ]
if xmlsec1 --verify --pubkey-cert-pem "$work/bus.pem" "${ids[@]}" "$work/answer.xml" > "$work/said" 2>&1; then
    sed 's|.*<seq>\([0-9]*\)</seq>.*|receipt verified: entry \1|' "$work/answer.xml"
    echo
else
    echo "receipt refused: $(head -c 200 "$work/said" | head -1)"
fi
