"""The files that an address names for TLS, tried before a first connection fails of them."""

from __future__ import annotations

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

WANTED = {
    "ssl_ca_path": "a folder of certificates in PEM",
    "ssl_ca_certs": "a file of certificates in PEM",
    "ssl_certfile": "a file of a certificate in PEM, with its key or beside ssl_keyfile",
    "ssl_keyfile": "a file of the key of ssl_certfile, both in PEM, encrypted with ssl_password or not at all",
}


def check(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` about the first of the files that cannot be used."""
    if WANTED.keys().isdisjoint(options):
        return
    import ssl
    from os import listdir
    from pathlib import Path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key = options.get("ssl_keyfile")
    if key and "ssl_certfile" not in options:
        raise ConfigurationError("ssl_keyfile", key, "a key beside ssl_certfile, the certificate it belongs to")

    def pair(_: str) -> None:
        password = options.get("ssl_password") or ""  # with none OpenSSL would ask at the terminal
        context.load_cert_chain(options["ssl_certfile"], key, password)

    def there(path: str) -> None:
        Path(path).open("rb").close()

    tried = (listdir, context.load_verify_locations, there if key else pair, pair)
    for (name, wanted), use in zip(WANTED.items(), tried, strict=True):
        if name in options:
            try:
                use(options[name])
            except OSError as error:  # those of ssl, too
                raise ConfigurationError(name, options[name], f"{wanted}; this: {error.strerror or error}") from None
