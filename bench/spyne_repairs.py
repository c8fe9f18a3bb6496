"""Makes stock Spyne 2.14.0 run at all: import this before anything of Spyne.

Numbers 1 to 4 are what a Spyne server on Twisted needs with today's packages; 5 and 6 are for Python 3.12 and 3.13.
None of them changes what Spyne does for a message, only whether it can.
"""

import importlib.machinery
import importlib.util
import sys
import types
from email.message import Message


def _parse_header(line):
    message = Message()
    message["content-type"] = line
    pairs = message.get_params()
    return pairs[0][0], dict(pairs[1:])


def _six_with_find_spec():
    """5. Spyne's vendored six has an importer without find_spec, which Python 3.12 no longer asks otherwise."""
    folder = importlib.util.find_spec("spyne").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("spyne.util.six", f"{folder}/util/six.py")
    six = importlib.util.module_from_spec(spec)
    sys.modules["spyne.util.six"] = six
    spec.loader.exec_module(six)
    importer = type(six._importer)

    def find_spec(self, fullname, path=None, target=None):
        found = fullname in self.known_modules
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname)) if found else None

    importer.find_spec = find_spec
    importer.create_module = lambda self, spec: self.load_module(spec.name)
    importer.exec_module = lambda self, module: None


def repair():
    import constantly

    sys.modules.setdefault("twisted.python.constants", constantly)  # 1. gone since Twisted 24.11
    if sys.version_info >= (3, 12):
        _six_with_find_spec()
    if sys.version_info >= (3, 13):  # 6. no cgi; Spyne uses parse_header and, for uploads only, FieldStorage
        cgi = types.ModuleType("cgi")
        cgi.parse_header, cgi.FieldStorage = _parse_header, None
        sys.modules.setdefault("cgi", cgi)

    from spyne.server.twisted import http

    method = http.TwistedHttpTransportContext.get_request_method
    # 2. bytes compared with "POST": every call was answered 405
    http.TwistedHttpTransportContext.get_request_method = lambda self: method(self).decode()
    # 3. str joined with bytes: the WSDL was a 500
    http._reconstruct_url = lambda request: request.prePathURL().decode() + request.uri.decode()
    # 4. twisted.web keeps bodies over 100 kB in a file, whose mmap Soap11 cannot take
    http._has_fd = lambda stream: False


repair()
