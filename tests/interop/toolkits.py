"""The table of toolkits: what installs each, how it is built, how it is run, how its signers are. One row a toolkit.

In: nothing. Out: rows. Commands are lists of words in which {work} is a folder of the toolkit's own and its working
directory, {clients} and {signers} are the folders beside this file, {wsdl} is an address or a file, {python} the
interpreter of this environment, and {axis}, {jaxws}, {plugin} are where Debian puts those. A client's row says:

    load     reads a WSDL; whatever it says of a warning counts against it
    build    makes the client, in order; empty for those that read the WSDL when they run
    call     calls every operation and prints one line each: its name, a colon, what was read of the answer
    cannot   shows what the toolkit cannot, in its own words or in the bus's to it
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
JAVA = "/usr/share/java/"
TOKEN, CERTIFICATE = "UsernameToken", "TLS client certificate"


class Toolkit(NamedTuple):
    """A toolkit that calls."""

    name: str
    install: str  # what brings it
    needs: tuple[str, ...]  # programs or files; a run fails where one is missing
    version: tuple[str, ...]  # prints it
    way: str  # how its client proves who it is
    load: tuple[str, ...]
    call: tuple[str, ...]
    build: tuple[tuple[str, ...], ...] = ()
    remark: str = ""
    cannot: tuple[str, ...] = ()


class Signer(NamedTuple):
    """A toolkit that signs and verifies."""

    name: str
    install: str
    needs: tuple[str, ...]
    version: tuple[str, ...]
    push: tuple[str, ...]
    build: tuple[tuple[str, ...], ...] = ()
    remark: str = ""


def _jars(*names: str) -> str:
    return ":".join(f"{JAVA}{name}.jar" for name in names)


PLACES: Mapping[str, str] = {
    "python": sys.executable,
    "bin": str(Path(sys.executable).parent),
    "clients": str(HERE / "clients"),
    "signers": str(HERE / "signers"),
    "plugin": "/usr/share/gsoap/plugin",
    "axis": _jars(
        "axis", "jaxrpc", "saaj", "wsdl4j", "commons-discovery", "commons-logging", "javax.mail", "javax.activation",
    ),
    "jaxws": _jars(
        "jaxws-api", "jaxb-api", "jaxws-rt", "jaxb-runtime", "saaj-impl", "saaj", "stax-ex", "streambuffer",
        "metro-policy", "gmbal", "glassfish-management-api", "mimepull", "istack-commons-runtime", "txw2",
        "FastInfoset", "javax.activation", "jws-api",
    ),
}  # fmt: skip

_NODE_CALL = ("env", "NODE_EXTRA_CA_CERTS={ca}", "node")
_JAVA_CALL = (
    "java", "-Djavax.net.ssl.trustStore={ca_store}", "-Djavax.net.ssl.trustStorePassword=changeit",
    "-Djavax.xml.soap.SAAJMetaFactory=com.sun.xml.messaging.saaj.soap.SAAJMetaFactoryImpl",
)  # fmt: skip
_GSOAP_BUILD = (
    "g++", "-O0", "-w", "-DWITH_OPENSSL", "-DWITH_DOM", "-DWITH_IPV6", "-DWITH_GZIP", "-I.", "-I{plugin}",
    "-I/usr/share/gsoap",
)  # fmt: skip
_GSOAP_PARTS = (
    "{plugin}/wsseapi.cpp", "{plugin}/smdevp.c", "{plugin}/mecevp.c", "{plugin}/threads.c",
    "/usr/share/gsoap/custom/struct_timeval.c", "-lgsoapssl++", "-lssl",
    "-lcrypto", "-lz",
)  # fmt: skip
_GSOAP_NEEDS = ("wsdl2h", "soapcpp2", "g++", "/usr/share/gsoap/plugin/wsseapi.cpp")


def _gsoap(service: str, source: str, wsdl: str) -> tuple[tuple[str, ...], ...]:
    """How gSOAP makes a client of a WSDL, with its WS-Security plugin."""
    return (
        ("wsdl2h", "-t", "{clients}/gsoap_typemap.dat", "-o", "service.h", wsdl),
        ("sh", "-c", "echo '#import \"wsse.h\"' >> service.h"),
        ("soapcpp2", "-j", "-C", "-L", "-x", "-I/usr/share/gsoap/import", "service.h"),
        (*_GSOAP_BUILD, "-o", "client", source, "soapC.cpp", f"soap{service}BindingProxy.cpp", *_GSOAP_PARTS),
    )


def _npm(package: str) -> tuple[str, ...]:
    return ("node", "-p", f"require('{package}/package.json').version")


def _pip(package: str) -> tuple[str, ...]:
    return ("{python}", "-c", f"import importlib.metadata as m; print(m.version('{package}'))")


def _deb(package: str) -> tuple[str, ...]:
    return ("dpkg-query", "-W", "-f", "${{Version}}", package)


TOOLKITS = (
    Toolkit(
        "zeep", "pip: zeep", (), _pip("zeep"), TOKEN,
        load=("{python}", "{clients}/zeep_client.py", "load", "{wsdl}"),
        call=("{python}", "{clients}/zeep_client.py", "call"),
    ),
    Toolkit(
        "suds", "pip: suds", (), _pip("suds"), TOKEN,
        load=("{python}", "{clients}/suds_client.py", "load", "{wsdl}"),
        call=("{python}", "{clients}/suds_client.py", "call"),
    ),
    Toolkit(
        "xsdata", "pip: xsdata[cli,soap]", (), _pip("xsdata"), CERTIFICATE,
        load=("{bin}/xsdata", "generate", "--package", "loaded", "{wsdl}"),
        build=(("{bin}/xsdata", "generate", "--package", "utility_xsdata", "{utility}"),),
        call=("env", "PYTHONPATH={work}", "{python}", "{clients}/xsdata_client.py"),
        remark="sends no SOAP header that the WSDL does not describe, so no UsernameToken",
    ),
    Toolkit(
        "npm soap", "npm: soap", ("node", "npm"), _npm("soap"), TOKEN,
        load=("node", "{clients}/soap_client.js", "load", "{wsdl}"),
        call=(*_NODE_CALL, "{clients}/soap_client.js", "call"),
        remark="gives an element that repeats as a list only where it does",
    ),
    Toolkit(
        "npm strong-soap", "npm: strong-soap", ("node", "npm"), _npm("strong-soap"), TOKEN,
        load=("node", "{clients}/strong_soap_client.js", "load", "{wsdl}"),
        call=(*_NODE_CALL, "{clients}/strong_soap_client.js", "call"),
        remark="gives an element that repeats as a list only where it does",
    ),
    Toolkit(
        "PHP SoapClient", "apt: php-cli php-soap", ("php",), ("php", "-r", "echo PHP_VERSION;"), TOKEN,
        load=("php", "{clients}/client.php", "load", "{wsdl}"),
        call=("php", "{clients}/client.php", "call"),
    ),
    Toolkit(
        "gSOAP", "apt: gsoap libgsoap-dev g++ libssl-dev zlib1g-dev", _GSOAP_NEEDS, _deb("gsoap"), TOKEN,
        load=("wsdl2h", "-t", "{clients}/gsoap_typemap.dat", "-o", "loaded.h", "{wsdl}"),
        build=_gsoap("Utility", "{clients}/gsoap_client.cpp", "{utility}"),
        call=("./client",),
        remark="soapcpp2 warns of `multiple base types, including f__Refusal`, which does no harm",
    ),
    Toolkit(
        "JAX-WS RI (wsimport)", "apt: jaxws openjdk-17-jdk-headless", ("wsimport", "javac", JAVA + "jaxws-rt.jar"),
        _deb("jaxws"), TOKEN,
        load=("sh", "-c", "mkdir -p loaded && wsimport -Xnocompile -d loaded -s loaded {wsdl}"),
        build=(
            ("sh", "-c", "mkdir -p source classes && wsimport -Xnocompile -d source -s source {utility}"),
            ("sh", "-c", "javac -nowarn -d classes -cp {jaxws} {clients}/JaxwsClient.java"
             " $(find source -name '*.java')"),
        ),
        call=(*_JAVA_CALL, "-cp", "{jaxws}:classes", "JaxwsClient"),
    ),
    Toolkit(
        "Axis 1.4", "apt: libaxis-java openjdk-17-jdk-headless", ("javac", JAVA + "axis.jar"), _deb("libaxis-java"),
        TOKEN,
        load=("java", "-cp", "{axis}", "org.apache.axis.wsdl.WSDL2Java", "-W", "-o", "loaded", "{wsdl}"),
        build=(
            ("java", "-cp", "{axis}", "org.apache.axis.wsdl.WSDL2Java", "-W", "-o", "source", "{utility}"),
            ("sh", "-c", "mkdir -p classes && javac -nowarn -d classes -cp {axis} {clients}/AxisClient.java"
             " $(find source -name '*.java')"),
        ),
        call=(*_JAVA_CALL, "-cp", "{axis}:classes", "AxisClient"),
        remark="finds no address in the bus's TLS certificate, only a name",
    ),
    Toolkit(
        "Mono (wsdl, mcs)", "apt: mono-devel", ("wsdl", "mcs", "mono"), _deb("mono-devel"), CERTIFICATE,
        load=("wsdl", "-nologo", "-out:loaded.cs", "{wsdl}"),
        build=(
            ("wsdl", "-nologo", "-out:Utility.cs", "{utility}"),
            ("mcs", "-nologo", "-out:client.exe", "-r:System.Web.Services", "-r:System.Xml", "-r:System", "Utility.cs",
             "{clients}/MonoClient.cs"),
        ),
        call=("mono", "client.exe"),
        remark="its proxies have no place for a header that the WSDL does not describe, so no UsernameToken",
    ),
    Toolkit(
        "SOAP::Lite", "apt: libsoap-lite-perl", ("perl",), ("perl", "-MSOAP::Lite", "-e", "print $SOAP::Lite::VERSION"),
        TOKEN,
        load=("perl", "{clients}/soap_lite.pl", "load", "{wsdl}"),
        call=("perl", "{clients}/soap_lite.pl", "call"),
        cannot=("perl", "{clients}/soap_lite.pl", "wsdl"),
        remark="its calls by WSDL are RPC-encoded and refused; the bodies are written by hand",
    ),
)  # fmt: skip

SIGNERS = (
    Signer(
        "gSOAP with wsseapi", "apt: gsoap libgsoap-dev g++ libssl-dev zlib1g-dev", _GSOAP_NEEDS, _deb("gsoap"),
        build=_gsoap("Metering", "{signers}/gsoap_signer.cpp", "{metering}"),
        push=("./client",),
    ),
    Signer(
        "JDK XML signature", "apt: openjdk-17-jdk-headless", ("javac", "java"), _deb("openjdk-17-jdk-headless"),
        build=(("javac", "-d", ".", "{signers}/JdkSigner.java"),),
        push=("java", "-cp", ".", "JdkSigner"),
    ),
    Signer(
        "xmlsec1", "apt: xmlsec1 openssl curl", ("xmlsec1", "openssl", "curl"), _deb("xmlsec1"),
        push=("bash", "{signers}/xmlsec1_signer.sh"),
    ),
    Signer(
        "zeep, set to SHA-256", "pip: zeep xmlsec", (), _pip("zeep"),
        push=("{python}", "{signers}/zeep_signer.py"),
        remark="mustUnderstand, and what of an answer must be signed, are the client's own lines",
    ),
    Signer(
        "Node with xml-crypto", "npm: xml-crypto", ("node", "npm"), _npm("xml-crypto"),
        push=("node", "{signers}/node_signer.js"),
        remark="ECDSA as XML Signature has it is the client's own lines",
    ),
)  # fmt: skip
