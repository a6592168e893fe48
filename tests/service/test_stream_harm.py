"""What a broken or hostile client cannot do to the service and to others."""

import threading
import time
from contextlib import ExitStack

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service.errors import WireError
from service.wire import (
    Closing,
    Reply,
    encode_frames,
)
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import (
    BINARY,
    ask,
    connected,
    make_message,
    read_answer,
)


def test_malformed_messages_of_one_client_never_harm_another(service: RunningService) -> None:
    stop = threading.Event()

    def misbehave() -> None:
        random = np.random.default_rng(3)
        whole = encode_frames(make_message(0))
        while not stop.is_set():
            try:
                with connect(service.stream_url, subprotocols=[BINARY], compression=None) as client:  # type: ignore[list-item]
                    for _ in range(16):
                        broken = bytearray(whole[: random.integers(1, len(whole))])
                        broken[random.integers(len(broken))] ^= 0xFF
                        client.send(bytes(broken))
                    client.socket.close()
            except (ConnectionClosed, OSError):
                pass

    threads = [threading.Thread(target=misbehave) for _ in range(2)]
    with connected(service) as client:
        for thread in threads:
            thread.start()
        try:
            for sequence in range(150):
                reply = ask(client, make_message(sequence))
                assert (reply.values.sequence, reply.drops) == (sequence, 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_clients_that_do_not_read_cost_bounded_memory(start_service: StartService) -> None:
    service = start_service()
    message = encode_frames(make_message(0))
    stop = threading.Event()

    def send_only(client: ClientConnection) -> None:
        while not stop.is_set():
            try:
                client.send(message)
            except (ConnectionClosed, OSError):
                return
            time.sleep(0.002)

    with connected(service) as reader, ExitStack() as stack:
        ask(reader, make_message(0))
        # A receive queue of one message and a pause at zero: the client library stops reading from the socket.
        deaf = [
            stack.enter_context(
                connect(service.stream_url, subprotocols=[BINARY], max_queue=1, compression=None)  # type: ignore[list-item]
            )
            for _ in range(8)
        ]
        threads = [threading.Thread(target=send_only, args=(client,)) for client in deaf]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        early_bytes = service.rss_bytes()
        for sequence in range(1, 100):
            ask(reader, make_message(sequence))
            time.sleep(0.02)
        late_bytes = service.rss_bytes()
        stop.set()
        for client in deaf:
            client.socket.shutdown(2)
        for thread in threads:
            thread.join()
    assert late_bytes - early_bytes < 8 << 20, (early_bytes, late_bytes)  # 48 to 287 MiB where answers queue up


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=600), st.text(max_size=80)))
def test_whatever_bytes_arrive_the_service_answers_or_closes_with_a_code(
    service: RunningService, data: bytes | str
) -> None:
    with connected(service) as client:
        client.send(data)
        try:
            answer = read_answer(client)
            assert isinstance(answer, WireError)
            client.send(encode_frames(make_message(1)))
            answer = read_answer(client)
            if isinstance(answer, Reply):
                assert answer.values.sequence == 1
            else:
                assert isinstance(answer, Closing)
                read_answer(client)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1007
