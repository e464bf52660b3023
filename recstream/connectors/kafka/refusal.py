"""Why a cluster does not let us in: credentials, certificates, protocol; told by what librdkafka reports."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError

__all__ = ["AccessRefusal", "is_refusal", "refusal_of"]

_PORT: Final = 9092
"""Of a broker whose address has none."""
_PROBE_S: Final = 1.0
"""How long a port has to show what it speaks."""
_NUMBER: Final = b"recs"
_API_VERSIONS: Final = b"\x00\x00\x00\x0a" + b"\x00\x12\x00\x00" + _NUMBER + b"\xff\xff"
"""A request that every Kafka answers: length; key 18, version 0; a number that comes back; no name."""
_ADDRESS: Final = re.compile(r"(?:\w+://)?\[?([^\s/\[\]]+?)\]?:(\d+)/")
"""``sasl_ssl://localhost:9093/bootstrap: ...``"""
_CODES: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - these are their public names
        KafkaError._SSL,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
_EXPIRED: Final = 10
_OTHER_HOST: Final = frozenset({62, 64})
"""OpenSSL's results of a verification: the certificate is over, or for another name or address."""


_ENDED: Final = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    }
)


class AccessRefusal(NamedTuple):
    """Why we are not let in."""

    why: str
    mend: str
    is_certain: bool
    """Whether no later try can go better with these settings. A broker that starts or ends, or a proxy before
    one, may close connections as one that expects another protocol does."""


_TO_PLAIN_TEXT: Final = AccessRefusal(
    "TLS is spoken to a port that expects plain text",
    "set security.protocol in kafka.client to plaintext or sasl_plaintext, or kafka.bootstrap to the port for"
    " TLS",
    is_certain=True,
)
_TO_TLS: Final = AccessRefusal(
    "plain text is spoken to a port that expects TLS",
    "set security.protocol in kafka.client to ssl or sasl_ssl, or kafka.bootstrap to the port for plain text",
    is_certain=True,
)
_NO_CREDENTIALS: Final = AccessRefusal(
    "the broker ends the connection when it is asked anything, as one does that wants credentials",
    "set security.protocol in kafka.client to sasl_ssl or sasl_plaintext, and sasl.* with it",
    is_certain=False,
)


def is_refusal(error: Any) -> bool:
    """Whether a client's error says that we are not let in, or may not be."""
    return error.code() in _CODES


def refusal_of(error: Any, bootstrap: str, client: Mapping[str, str] | None) -> AccessRefusal | None:
    """Why we are not let in, by a client's error; None for other errors.

    Looks at the brokers' ports where the client does not know more than that connections end.
    """
    text = error.str()
    if "PLAINTEXT broker listener?" in text:
        return _by_the_port(bootstrap, client or {}) or _TO_PLAIN_TEXT._replace(is_certain=False)
    if error.code() == KafkaError._SSL:  # noqa: SLF001 - its public name
        return _certificate(text, client)
    if error.code() in _CODES:
        return _credentials(text, client)
    if error.code() in _ENDED and "Connect to" not in text:
        found = _by_the_port(bootstrap, client or {})
        # Who was let in and got no answer in time may have asked a broker that waits for another one.
        is_cut_off = error.code() == KafkaError._TRANSPORT  # noqa: SLF001
        return found if found is None or found.is_certain or is_cut_off else None
    return None


def _by_the_port(bootstrap: str, client: Mapping[str, str]) -> AccessRefusal | None:
    """What the first broker that we can connect to speaks, where it is not what we do."""
    protocol = client.get("security.protocol", "plaintext").lower()
    for broker in bootstrap.split(","):
        host, port = _address(f"{broker.strip()}/")
        if not protocol.endswith("ssl") and _speaks_tls(host, port):
            return _TO_TLS
        if protocol == "plaintext" and _speaks_plain_text(host, port):
            return _NO_CREDENTIALS
        if protocol.endswith("ssl") and _speaks_plain_text(host, port):
            return _TO_PLAIN_TEXT
        if protocol == "ssl" and _speaks_tls(host, port):
            return _NO_CREDENTIALS
    return None


def _credentials(text: str, client: Mapping[str, str] | None) -> AccessRefusal:
    """What SASL ended with."""
    chosen = client or {}
    mechanism = chosen.get("sasl.mechanism", chosen.get("sasl.mechanisms", "GSSAPI"))
    if "SASL state" in text:
        return AccessRefusal(
            "credentials are sent to a port that wants none",
            "set security.protocol in kafka.client to plaintext or ssl, or kafka.bootstrap to the port for "
            "SASL",
            is_certain=True,
        )
    if "supported mechanisms" in text or "Unsupported SASL" in text:
        return AccessRefusal(
            f"the broker does not know the SASL mechanism {mechanism}",
            "set sasl.mechanism in kafka.client to one that it has enabled",
            is_certain=True,
        )
    return AccessRefusal(
        f"the broker refuses our credentials ({mechanism} of user {chosen.get('sasl.username', '')!r})",
        "correct sasl.username and sasl.password in kafka.client",
        # A broker that ends may leave an authentication unanswered, and a server of tokens may be away.
        is_certain="Disconnected" not in text and "token" not in text,
    )


def _certificate(text: str, client: Mapping[str, str] | None) -> AccessRefusal:
    """What the handshake of TLS ended with."""
    if "client SSL authentication might be required" in text or "certificate required" in text:
        return AccessRefusal(
            "the broker wants a certificate of ours",
            "set ssl.certificate.location and ssl.key.location in kafka.client",
            is_certain="Disconnected" not in text,
        )
    if "certificate verify failed" not in text:
        return AccessRefusal(
            "the TLS handshake failed",
            "check ssl.* in kafka.client and what the broker offers",
            is_certain=False,
        )
    found = _verification(text, client)
    code, why = (found.verify_code, found.verify_message) if found else (0, "")
    if code in _OTHER_HOST:
        return AccessRefusal(
            f"the broker's certificate is for another host: {why}",
            "set kafka.bootstrap (and the broker's advertised.listeners) to a name that it has",
            is_certain=True,
        )
    if code == _EXPIRED:
        return AccessRefusal(
            f"the broker's certificate is over: {why}", "renew it on the broker", is_certain=True
        )
    return AccessRefusal(
        f"the broker's certificate is not trusted{': ' if why else ''}{why}",
        "set ssl.ca.location in kafka.client to the certificate of the authority that signed it",
        is_certain=True,
    )


def _verification(text: str, client: Mapping[str, str] | None) -> ssl.SSLCertVerificationError | None:
    """What is wrong with the certificate, which librdkafka does not say."""
    chosen = client or {}
    where = chosen.get("ssl.ca.location", "")
    try:
        context = ssl.create_default_context(
            cafile=where if where and where != "probe" else None, cadata=chosen.get("ssl.ca.pem")
        )
        _shake_hands(*_address(text), context)
    except ssl.SSLCertVerificationError as error:
        return error
    except OSError:
        return None
    return None


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(host, port, context)
    except OSError:
        return False
    return True


def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection((host, port), _PROBE_S) as connection:
        context.wrap_socket(connection, server_hostname=host).close()


def _speaks_plain_text(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _PROBE_S) as connection:
            connection.sendall(_API_VERSIONS)
            return connection.recv(8)[4:] == _NUMBER  # behind the length
    except OSError:
        return False


def _address(text: str) -> tuple[str, int]:
    """Host and port that a client's text begins with.

    >>> _address("sasl_ssl://localhost:9093/bootstrap: SSL handshake failed")
    ('localhost', 9093)
    >>> _address("[::1]:9092/1: Disconnected"), _address("kafka/")
    (('::1', 9092), ('kafka', 9092))
    """
    found = _ADDRESS.search(text)
    return (found[1], int(found[2])) if found else (text.partition("/")[0], _PORT)
