"""Which addresses the service connects to for a client: public ones, whatever the notation."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from translator.service.tools.addresses import (
    AddressRules,
    CheckedResolver,
    NotAllowed,
    literal,
    parsed,
)

from .searching import ScriptedWeb, codex_of, result

pytestmark = pytest.mark.anyio

PUBLIC = AddressRules()
PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.8 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.7 203.0.113.7 224.0.0.1
239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 febf::1 fec0::1 fc00::1 fd12:3456::1 ff02::1
2001:db8::1 3fff::1 64:ff9b:1::1 100::1 5f00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 2002:7f00:1:: 2002:c0a8:1::1
2001:0:7f00:1:: 2001:0:808:808::f5ff:fffe 2606:4700::5efe:a00:1
""".split()
GLOBAL = """
1.1.1.1 8.8.8.8 93.184.215.14 172.32.0.1 192.0.1.1 100.128.0.1 2606:4700:4700::1111 2a00::1
::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1
""".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", GLOBAL)
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC.allows(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_wherever_it_is_embedded(
    address: ipaddress.IPv4Address,
) -> None:
    """And never allowed where Python itself knows that it is not global."""
    number = int(address)
    allowed = PUBLIC.allows(address)
    assert not (allowed and not address.is_global)
    for high, shift in ((0xFFFF << 32, 0), (0x64FF9B << 96, 0), (0x2002 << 112, 80)):
        assert PUBLIC.allows(ipaddress.IPv6Address(high | number << shift)) is allowed
    teredo = 0x20010000 << 96 | 0x08080808 << 64 | (~number & 0xFFFFFFFF)
    assert PUBLIC.allows(ipaddress.IPv6Address(teredo)) is allowed
    isatap = 0x2606_4700 << 96 | 0x5EFE << 32 | number
    assert PUBLIC.allows(ipaddress.IPv6Address(isatap)) is allowed


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_is_allowed_only_if_it_is_global(address: ipaddress.IPv6Address) -> None:
    if PUBLIC.allows(address):
        embeds = address.ipv4_mapped or address.sixtofour or address.teredo
        assert embeds or address.is_global or address in ipaddress.IPv6Network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_what_the_operator_allows_is_only_that(address: ipaddress.IPv4Address) -> None:
    network = ipaddress.ip_network("10.1.0.0/16")
    rules = AddressRules([network])
    assert rules.allows(address) is (address in network or PUBLIC.allows(address))
    assert rules.allows(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert not rules.allows(ipaddress.ip_address("::ffff:10.2.2.3"))


@given(st.ip_addresses(v=4))
def test_every_notation_of_an_address_is_known(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    first, rest = number >> 24, number & 0xFFFFFF
    for text in (str(address), str(number), hex(number), f"{first}.{rest}", f"0x{first:x}.{rest}"):
        assert literal(text) == address
        if not PUBLIC.allows(address):
            with pytest.raises(NotAllowed):
                PUBLIC.check_url(f"http://{text}/")


@given(st.text(max_size=60))
def test_any_text_is_a_url_of_the_web_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"https://a.test/{text}"):
        try:
            checked = PUBLIC.check_url(url)
        except NotAllowed:
            continue
        again = parsed(checked)
        assert again.geturl() == checked
        assert again.scheme in ("http", "https")
        assert "@" not in again.netloc and again.netloc.isascii() and not again.fragment


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("HTTP://A.Test", "http://a.test/"),
        ("https://a.test:443/x?y#z", "https://a.test/x?y"),
        ("https://a.test:8443", "https://a.test:8443/"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/ü"),
        ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080/"),
    ],
)
def test_a_url_is_sent_in_one_form(url: str, sent: str) -> None:
    assert PUBLIC.check_url(url) == sent


@pytest.mark.parametrize("port", [0, 22, 25, 1023, 99999])
def test_ports_of_other_services_are_refused(port: int) -> None:
    with pytest.raises(NotAllowed):
        PUBLIC.check_url(f"https://8.8.8.8:{port}/")


def test_the_services_own_port_is_refused() -> None:
    rules = AddressRules([ipaddress.ip_network("127.0.0.0/8")], [8080])
    rules.check_url("http://127.0.0.1:8081/")
    with pytest.raises(NotAllowed, match="leads back"):
        rules.check_url("http://127.0.0.1:8080/v1/models")


# --- names, and connections ----------------------------------------------------------------------


class Names:
    """A resolver of the system that gives what a test says, one answer after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if self.answers else []
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port),
            )
            for one in addresses
        ]


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["::ffff:10.0.0.1"], ["fe80::1"]]
)
async def test_one_private_address_refuses_a_name(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(addresses))
    resolver = CheckedResolver(PUBLIC)
    with pytest.raises(NotAllowed):
        await resolver.resolve("a.test", 443)
    await resolver.close()


async def test_the_connection_goes_to_the_address_that_was_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["8.8.8.8", "2606:4700::1111"]))
    resolver = CheckedResolver(PUBLIC)
    found = await resolver.resolve("a.test", 443)
    assert [one["host"] for one in found] == ["8.8.8.8", "2606:4700::1111"]
    assert all(one["flags"] & socket.AI_NUMERICHOST for one in found)
    await resolver.close()


async def test_too_many_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names([f"8.8.8.{n}" for n in range(40)]))
    resolver = CheckedResolver(PUBLIC)
    with pytest.raises(NotAllowed, match="too many"):
        await resolver.resolve("a.test", 443)
    await resolver.close()


@asynccontextmanager
async def listener() -> AsyncGenerator[tuple[int, list[object]]]:
    """A port of this machine, and the connections that came to it."""
    connections: list[object] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


INSIDE = (
    "http://127.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://0x7f.1:{port}/",
    "http://2130706433:{port}/",
    "http://127.1:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://user:password@127.0.0.1:{port}/",
    "https://ok.example@127.0.0.1:{port}/",
    "http://ok.example\\@127.0.0.1:{port}/",
    "http://0.0.0.0:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "http://private.test:{port}/",
    "http://mixed.test:{port}/",
)


async def test_scenario_30_h13_no_url_leads_inside(
    scripted: ScriptedWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a name nor by an address in any notation: a listener counts no connection."""
    known = {"private.test": ["127.0.0.1"], "mixed.test": ["8.8.8.8", "127.0.0.1"]}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return Names(known[host])(host, port) if host in known else real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with (
        listener() as (port, connections),
        codex_of(scripted, tools={"allow_private": []}, pages={"open": "any"}) as codex,
    ):
        for url in INSIDE:
            output = await codex.ask(open=[{"ref_id": url.format(port=port)}])
            assert "[turn" not in output, url
        assert connections == []
    assert scripted.calls == []


async def test_scenario_30_a_redirect_leads_nowhere_else(scripted: ScriptedWeb) -> None:
    """Each address on the way is judged: here, 127.0.0.1 is allowed, and 127.0.0.2 is not."""
    async with listener() as (port, connections):
        scripted.pages["/away"] = web.Response(
            status=302, headers={"location": f"http://[::ffff:127.0.0.2]:{port}/"}
        )
        tools = {"allow_private": ["127.0.0.1/32"]}
        async with codex_of(scripted, tools=tools, pages={"open": "any"}) as codex:
            output = await codex.ask(open=[{"ref_id": f"{scripted.url}/away"}])
            assert "private network" in output
    assert connections == []


async def test_scenario_30_a_name_is_looked_up_once(
    scripted: ScriptedWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second answer, which a rebinding server would give, is never asked for."""
    port = scripted.url.rpartition(":")[2]
    scripted.pages["/x"] = "<p>the page"
    names = Names(["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"])  # of robots.txt, and of the page
    monkeypatch.setattr(socket, "getaddrinfo", names)
    async with codex_of(scripted, pages={"open": "any"}) as codex:
        assert "the page" in await codex.ask(open=[{"ref_id": f"http://rebinding.test:{port}/x"}])
    assert names.asked == ["rebinding.test"] * 2


async def test_the_backend_may_be_private(scripted: ScriptedWeb) -> None:
    """It is the operator's; pages need `allow_private` all the same."""
    scripted.results = [result(f"{scripted.url}/page")]
    scripted.pages["/page"] = "<p>inside"
    async with codex_of(scripted, tools={"allow_private": []}) as codex:
        assert "search0] A title" in await codex.ask(search_query=[{"q": "a"}])
        [found] = codex.results
        assert "private network" in await codex.ask(open=[{"ref_id": found["ref_id"]}])
    assert scripted.asked == ["/search"]


async def test_the_service_does_not_ask_itself(scripted: ScriptedWeb) -> None:
    port = int(scripted.url.rpartition(":")[2])
    async with codex_of(scripted, pages={"open": "any"}, port=port) as codex:
        output = await codex.ask(open=[{"ref_id": f"{scripted.url}/v1/models"}])
    assert "leads back to this service" in output
    assert scripted.calls == []
