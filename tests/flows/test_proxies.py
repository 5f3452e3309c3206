"""Servers on this machine are accessed without proxies, other hosts through them (case 21)."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import requests
from support.project import REPOSITORY
from support.toyflow import SECRET, prefect_api, without_prefect

from tasks.runtime.loopback import exempt_loopback_from_proxies, is_loopback, open_url

HERE = ("http://127.0.0.1:4200/api", "http://localhost:5000", "http://[::1]:5000/x")
ELSEWHERE = ("http://example.org/x", "http://127.0.0.1.example.org/", "http://10.0.0.1:5000")
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
NAMES = (*PROXIES, "NO_PROXY", "no_proxy")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy's address, and what it was asked for."""
    requests_seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests_seen.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests_seen
    server.shutdown()
    server.server_close()


def goes_by_proxy(url: str) -> set[bool]:
    """What urllib, requests and httpx would do."""
    client = httpx.Client(verify=False)
    host = httpx.URL(url).host
    by_httpx = client._transport_for_url(httpx.URL(url)) is not client._transport
    by_requests = bool(requests.utils.get_environ_proxies(url))
    return {by_httpx, by_requests, not urllib.request.proxy_bypass(host)}


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("kept", [None, "NO_PROXY", "no_proxy"])
def test_case_21_urllib_requests_and_httpx_go_to_this_machine_directly_and_elsewhere_by_the_proxy(
    clean: pytest.MonkeyPatch, name: str, kept: str | None
) -> None:
    clean.setenv(name, "http://127.0.0.1:9")
    if kept:
        clean.setenv(kept, "intern.example.org, 10.1.2.3")
    exempt_loopback_from_proxies()
    exempt_loopback_from_proxies()  # a child does it again
    secure = name.lower() == "https_proxy"  # it is for https alone, as HTTP_PROXY is for http
    here, elsewhere, inside = (
        [url.replace("http:", "https:") if secure else url for url in urls]
        for urls in (HERE, ELSEWHERE, ["http://intern.example.org/"])
    )
    assert {url: goes_by_proxy(url) for url in here} == {url: {False} for url in here}
    assert {url: goes_by_proxy(url) for url in elsewhere} == {url: {True} for url in elsewhere}
    assert goes_by_proxy(*inside) == {not kept}


def test_an_environment_without_proxies_or_without_exceptions_stays_as_it_is() -> None:
    for before in ({}, {"NO_PROXY": "x"}, {"HTTP_PROXY": ""}):
        after = dict(before)
        exempt_loopback_from_proxies(after)
        assert after == before
    everything = {"HTTP_PROXY": "http://p", "NO_PROXY": "*"}
    exempt_loopback_from_proxies(everything)
    assert everything["no_proxy"] == everything["NO_PROXY"] == "*"


def test_our_own_requests_reach_this_machine_directly_and_others_by_the_proxy(
    clean: pytest.MonkeyPatch, proxy: tuple[str, list[str]]
) -> None:
    address, requests_seen = proxy
    clean.setenv("http_proxy", "http://127.0.0.1:9")
    assert open_url(f"{address}/health", 5.0) == 200
    assert requests_seen == ["/health"]
    clean.setenv("http_proxy", address)
    assert open_url("http://strop.invalid/x", 5.0) == 200
    assert requests_seen[1:] == ["http://strop.invalid/x"]
    assert not is_loopback("http://[broken")


SPEAK = """
from pathlib import Path
from flows.runtime.environment import prepare_environment
prepare_environment(Path())
from flows.runtime.prefect_server import ensure_server
ensure_server()
from prefect.client.orchestration import get_client
import asyncio
print(get_client(sync_client=True).hello().status_code)
async def speak():
    async with get_client() as client:
        return await client.hello()
print(asyncio.run(speak()).status_code)
"""


def speak(folder: Path, proxies: dict[str, str], **more: str) -> list[str]:
    """What Prefect's clients are answered in a process with these proxies."""
    kept = {
        name: value for name, value in without_prefect(PYTHONPATH=str(REPOSITORY), **more).items() if name not in NAMES
    }
    done = subprocess.run(
        [sys.executable, "-c", SPEAK], env={**kept, **proxies}, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_case_21_a_server_of_our_own_starts_and_answers_whatever_the_proxies_are(tmp_path: Path) -> None:
    assert speak(tmp_path, dict.fromkeys(PROXIES, NOWHERE)) == ["200", "200"]


@pytest.mark.parametrize(
    "proxies",
    [
        dict.fromkeys(PROXIES[::2], NOWHERE),
        dict.fromkeys(PROXIES[1::2], NOWHERE),
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks://127.0.0.1:9", "HTTP_PROXY": "127.0.0.1:9"},
    ],
    ids=["upper case", "lower case", "SOCKS", "no URL"],
)
def test_case_21_prefects_clients_reach_a_server_on_this_machine_whatever_the_proxies_are(
    tmp_path: Path, proxies: dict[str, str]
) -> None:
    access = {"PREFECT_API_URL": prefect_api(), "PREFECT_API_AUTH_STRING": SECRET}
    assert speak(tmp_path, proxies, **access) == ["200", "200"]
