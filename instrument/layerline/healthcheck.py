"""Whether the server of this container answers: ``python -m layerline.healthcheck`` ends with 0, else with 1.

For the HEALTHCHECK of an image, which has no curl. It asks ``/healthz``, which needs no token, at the first address of
``LAYERLINE_LISTEN``; over TLS where there is a certificate, which it need not trust to ask itself.
"""

from __future__ import annotations

import http.client
import ssl
import sys

from layerline.configuration import BadSettings, below

_PATIENCE_S = 5


def main() -> int:
    """0 where the server answers, 1 and why where it does not."""
    try:
        settings = below("serve")
    except BadSettings as problem:
        print(problem, file=sys.stderr)
        return 1
    host, _, port = settings.get("LAYERLINE_LISTEN", "").partition(",")[0].strip().rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - asked
    connection: http.client.HTTPConnection
    if settings.get("LAYERLINE_TLS_CERT"):
        itself = ssl.create_default_context()
        itself.check_hostname, itself.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, int(port or 4318), timeout=_PATIENCE_S, context=itself)
    else:
        connection = http.client.HTTPConnection(host, int(port or 4318), timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        print(f"{host}:{port or 4318} does not answer: {problem}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
