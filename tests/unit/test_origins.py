"""Names by which this service may be called, and pages that may call it."""

import pytest
from aiohttp.test_utils import make_mocked_request

from service.api.origins import is_allowed, is_foreign, is_loopback
from service.config import Settings


@pytest.mark.parametrize(
    "host, allowed",
    [
        ("127.0.0.1", True),
        ("127.8.0.1:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("app.localhost", True),
        ("[::1]:8080", True),
        ("exports.example.com", True),
        ("exports.example.com:443", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("exports.example.com.evil.example", False),
        ("evil.example/localhost", False),
        ("evil.example#@localhost", False),
        ("", False),
        ("192.168.1.1", False),
        ("[::1", False),
        ("a b", False),
    ],
)
def test_names(host: str, allowed: bool) -> None:
    assert is_allowed(host, ("exports.example.com",)) is allowed


def test_any_name() -> None:
    assert is_allowed("evil.example", ("*",))


@pytest.mark.parametrize(
    "headers, foreign",
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://here:1"}, True),
        ({"Origin": "http://here:1"}, False),
        ({"Origin": "http://here:2"}, True),
        ({"Origin": "http://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://[::1"}, True),
        ({"Origin": "http://here:x"}, True),
    ],
)
def test_pages(headers: dict[str, str], foreign: bool) -> None:
    request = make_mocked_request("POST", "/exports", headers=headers)
    assert is_foreign(request, "here:1") is foreign


def test_loopback() -> None:
    assert is_loopback("::1") and not is_loopback("0.0.0.0")


def test_the_setting_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, B.example,")
    assert Settings().allowed_hosts == ("a.example", "b.example")
