"""What is wrong with a broker's certificate, and why connections that end are not taken for more."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recstream.connectors.kafka.admin import list_topics
from recstream.connectors.kafka.client import KafkaFault, NoAnswerFault, RefusedFault


def certificate(folder: Path, *, name: str, days: int) -> Path:
    """A certificate that signs itself, with its key in one file."""
    key, request, made = folder / "key.pem", folder / "request.pem", folder / "certificate.pem"
    (folder / "names").write_text(f"subjectAltName={name}\nbasicConstraints=critical,CA:TRUE\n")

    def openssl(*words: str | Path) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=broker")
    signed = ("-signkey", key, "-days", str(days), "-extfile", folder / "names")
    openssl("x509", "-req", "-in", request, *signed, "-out", made)
    made.write_text(made.read_text() + key.read_text())
    return made


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def shaking_hands(made: Path) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made)

    def serve(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return

    return serve


@pytest.mark.parametrize(
    ("name", "days", "says", "mend"),
    [
        ("IP:127.0.0.1", -1, "is over: certificate has expired", "renew it"),
        ("DNS:other.example", 2, "is for another host: .*127.0.0.1", "kafka.bootstrap"),
    ],
    ids=["over", "another host"],
)
def test_what_is_wrong_with_a_certificate_is_told(
    tmp_path: Path, name: str, days: int, says: str, mend: str
) -> None:
    """The client library tells only that it does not take it."""
    made = certificate(tmp_path, name=name, days=days)
    with server(shaking_hands(made)) as address:
        client = {"security.protocol": "ssl", "ssl.ca.location": str(made)}
        with pytest.raises(RefusedFault, match=f"the broker's certificate {says}") as caught:
            list_topics(address, client=client, timeout_s=1)
    assert mend in caught.value.mend


@pytest.mark.parametrize("protocol", ["plaintext", "ssl"])
def test_a_port_that_ends_connections_may_be_a_proxy_before_a_broker_that_starts(protocol: str) -> None:
    with server(lambda _: None) as address, pytest.raises(KafkaFault) as caught:
        list_topics(address, client={"security.protocol": protocol}, timeout_s=1)
    assert isinstance(caught.value, NoAnswerFault)
