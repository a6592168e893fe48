import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import check_access
from service.errors import ErrorCode, RequestError

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def code_of(hosts: list[str], origins: list[str], allowed: frozenset[str] = frozenset()) -> ErrorCode | None:
    try:
        check_access(hosts, origins, answered_hosts=HOSTS, allowed_origins=allowed)
    except RequestError as error:
        assert error.status == 403
        return error.code
    return None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_programs_on_this_machine_are_let_in(host: str) -> None:
    assert code_of([host], []) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000", "[::2]:8000", "", "::1"]
)
def test_another_name_is_refused(host: str) -> None:
    assert code_of([host], []) == ErrorCode.HOST


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"], ["localhost", "localhost"]])
def test_there_is_exactly_one_host(hosts: list[str]) -> None:
    assert code_of(hosts, []) == ErrorCode.HOST


def test_a_star_answers_to_every_name() -> None:
    check_access(["pod-7.cluster"], [], answered_hosts=frozenset({"*"}), allowed_origins=frozenset())


def test_the_own_page_is_let_in() -> None:
    assert code_of(["localhost:8000"], ["http://localhost:8000"]) is None
    assert code_of(["localhost:8000"], ["https://LocalHost:8000"]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:3000",  # another program's page on this machine
        "http://localhost",
        "http://127.0.0.1:8000",  # the same machine, yet another origin than the Host
        "null",
        "",
        "file://",
        "http://localhost:8000.evil.example",
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert code_of(["localhost:8000"], [origin]) == ErrorCode.ORIGIN


def test_an_allowed_origin_is_let_in() -> None:
    allowed = frozenset({"https://app.example"})
    assert code_of(["localhost:8000"], ["https://app.example"], allowed) is None
    assert code_of(["localhost:8000"], ["https://app.example", "https://evil.example"], allowed) == ErrorCode.ORIGIN


@given(host=st.text(), origin=st.text())
def test_any_text_is_let_in_or_refused_with_a_reason(host: str, origin: str) -> None:
    bare = host.strip().lower()
    code = code_of([host], [origin])
    if code is None:
        assert bare.startswith(("localhost", "127.0.0.1", "[::1]"))
        assert origin.strip().lower() in (f"http://{bare}", f"https://{bare}")


@pytest.mark.parametrize("host", ["10.42.0.17:8000", "10.42.0.17", "[fd00::17]:8000"])
def test_an_address_is_answered_where_any_is(host: str) -> None:
    check_access([host], [], answered_hosts=HOSTS, allowed_origins=frozenset(), any_address=True)
    assert code_of([host], []) == ErrorCode.HOST


@pytest.mark.parametrize("host", ["evil.example", "10.42.0.17.nip.io", "10.42.0", "[evil]", "[10.42.0.17]", ""])
def test_a_name_is_no_address(host: str) -> None:
    with pytest.raises(RequestError):
        check_access([host], [], answered_hosts=HOSTS, allowed_origins=frozenset(), any_address=True)


def test_a_page_of_elsewhere_is_refused_under_an_address_too() -> None:
    origins = ["http://evil.example"]
    with pytest.raises(RequestError) as refused:
        check_access(["10.0.0.7"], origins, answered_hosts=HOSTS, allowed_origins=frozenset(), any_address=True)
    assert refused.value.code == ErrorCode.ORIGIN
