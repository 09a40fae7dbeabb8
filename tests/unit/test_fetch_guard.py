"""The guard of fetching: which addresses may be reached, in whatever way they are written or resolved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from soundfleet_producer.settings import Settings
from soundfleet_schemas import ErrorCode, SettingsError, SoundfleetError, parse_source
from soundfleet_schemas.sources import check_source
from soundfleet_worker.fetch import FetchPolicy, fetch_url, read_networks
from soundfleet_worker.fetch.guard import Resolver, is_allowed
from soundfleet_worker.fetch.target import Target, follow, parse_target

POLICY = FetchPolicy()
MAX_BYTES = 100


def resolver(*answers: Sequence[str] | OSError) -> Resolver:
    """Answer one question after the other."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        found = left.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    return resolve


async def code_of(
    url: str, directory: Path, resolve: Resolver | None = None, policy: FetchPolicy = POLICY
) -> ErrorCode:
    """Fetch what is refused; return why."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_url(url, directory / "in", MAX_BYTES, policy, resolve=resolve or resolver())
    return caught.value.code


PRIVATE_HOSTS = (
    "127.0.0.1 127.0.0.1. 2130706433 0x7f000001 0x7f.1 0177.0.0.1 127.1 127.0.0.1.. 0 1.1 ０x7f.1 １２７。０。０。１"
    " 169.254.169.254 [::1] [::] [::ffff:7f00:1] [::ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::a9fe:a9fe] [fd00::1]"
    " [fe80::1%25lo] [2606:4700::1111%25lo] [v1.127.0.0.1]"
)


@pytest.mark.parametrize("host", PRIVATE_HOSTS.split())
async def test_a_private_address_is_refused_in_every_spelling(host: str, tmp_path: Path) -> None:
    """Without a connection, and without asking a name server, which might know some of them."""
    code = await code_of(f"http://{host}/", tmp_path)
    assert code is (ErrorCode.INVALID_SOURCE if ".." in host or "%" in host else ErrorCode.SOURCE_FORBIDDEN)


@pytest.mark.parametrize("answers", [["10.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["1.1.1.1", "::1"], ["fe80::1%2"], ["x"]])
async def test_a_name_is_refused_for_any_address_that_it_has(answers: list[str], tmp_path: Path) -> None:
    """The connection may go to any of them. Which one it is stays here."""
    with pytest.raises(SoundfleetError, match="not on the public internet") as caught:
        await fetch_url("http://name.test/", tmp_path / "in", MAX_BYTES, POLICY, resolve=resolver(answers))
    assert answers[-1] not in str(caught.value).replace("http", "")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], "SOURCE_NOT_FOUND"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "SOURCE_NOT_FOUND"),
        (socket.gaierror(socket.EAI_NODATA, "no address"), "SOURCE_NOT_FOUND"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "SOURCE_UNAVAILABLE"),
        (OSError("no network"), "SOURCE_UNAVAILABLE"),
    ],
)
async def test_a_name_that_leads_nowhere_is_typed(
    found: Sequence[str] | OSError, code: ErrorCode, tmp_path: Path
) -> None:
    """An unknown name stays unknown; a name server that is away comes back."""
    assert await code_of("http://name.test/", tmp_path, resolver(found)) == code


async def test_a_name_server_that_is_silent_is_given_up(tmp_path: Path) -> None:
    """Resolving has its own time."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    hasty = POLICY._replace(connect_sec=0.1)
    assert await code_of("http://silent.test/", tmp_path, resolve, hasty) is ErrorCode.SOURCE_UNAVAILABLE


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://", "http://./", "http://a..b/", "http://x:y/", "http://x:99999/", "http://[::é]/"]
)
async def test_what_is_no_http_address_is_refused(tmp_path: Path, url: str) -> None:
    """A publisher in another language may send anything."""
    assert await code_of(url, tmp_path) is ErrorCode.INVALID_SOURCE


@pytest.mark.parametrize("port", [22, 6379, 8080, 65535])
async def test_a_public_host_is_asked_on_the_usual_ports_only(port: int, tmp_path: Path) -> None:
    """The fleet is not lent out to scan the internet."""
    assert await code_of(f"http://1.1.1.1:{port}/", tmp_path) is ErrorCode.SOURCE_FORBIDDEN
    assert await code_of(f"http://name.test:{port}/", tmp_path, resolver(["1.1.1.1"])) is ErrorCode.SOURCE_FORBIDDEN


REFUSED = (
    "0.0.0.0 10.1.1.1 100.64.0.1 100.100.100.200 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1 172.31.9.9"
    " 192.0.0.192 192.168.1.1 198.18.0.1 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fec0::1"
    " fd00:ec2::254 ff02::1 ::ffff:10.0.0.1 ::ffff:0:10.0.0.1 ::10.0.0.1 2002:7f00:1:: 2001:0:1::1 2001:db8::1"
    " 64:ff9b::7f00:1 64:ff9b:1::a00:1 3fff::1 5f00::1 100::1 text 1.1.1 1.1.1.1/32"
)


@pytest.mark.parametrize("text", REFUSED.split())
def test_an_address_off_the_internet_is_refused(text: str) -> None:
    """Wrapped ones too."""
    assert not is_allowed(text, 80, POLICY)


@pytest.mark.parametrize("text", ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_allowed(text: str) -> None:
    """Wrapped ones too."""
    assert is_allowed(text, 443, POLICY)


def test_what_the_operator_allows_is_allowed_on_any_port_and_nothing_beside_it() -> None:
    """Wrapped or not."""
    policy = FetchPolicy(read_networks("10.1.0.0/16, fd00::/8,192.168.7.7"))
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "192.168.7.7"):
        assert is_allowed(text, 9000, policy)
    for text in ("10.2.0.1", "192.168.7.8", "fe80::1", "127.0.0.1"):
        assert not is_allowed(text, 80, policy)
    assert not is_allowed("1.1.1.1", 9000, policy)


def test_the_operators_networks_are_read_from_the_setting() -> None:
    """Empty by default."""
    assert read_networks(Settings.load({}).fetch_networks) == ()
    text = Settings.load({"SOUNDFLEET_FETCH_NETWORKS": " 10.0.0.0/8 ,::1, "}).fetch_networks
    assert read_networks(text) == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "files.test", "10.0.0.0/33", "10.0.0.0-10.0.0.9"])
def test_a_network_that_cannot_be_read_is_an_error(text: str) -> None:
    """A slip of the pen does not open another network than was meant."""
    with pytest.raises(SettingsError, match="fetch_networks") as caught:
        read_networks(text)
    assert caught.value.code is ErrorCode.INVALID_SETTING


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("HTTP://Files.Test", ("http", "files.test", 80, "/")),
        ("https://files.test./a b"[:-2], ("https", "files.test", 443, "/a")),
        ("https://bücher.test:8443/ä?ö=%C3%BC#part", ("https", "xn--bcher-kva.test", 8443, "/%C3%A4?%C3%B6=%C3%BC")),
        ("http://[2001:DB8:0::1]:8080/", ("http", "2001:db8::1", 8080, "/")),
    ],
)
def test_an_address_is_taken_apart(url: str, target: tuple[str, str, int, str]) -> None:
    """What is sent is ASCII; the fragment stays here."""
    assert parse_target(url) == Target(*target)


def test_a_redirect_may_not_lay_the_lock_aside() -> None:
    """From https to http."""
    start = parse_target("https://files.test/a/b?c")
    assert follow(start, "../d").url == "https://files.test/d"
    assert follow(parse_target("http://files.test/"), "https://other.test/").scheme == "https"
    with pytest.raises(SoundfleetError, match="from https to plain http") as caught:
        follow(start, "http://files.test/a/b")
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN


def test_a_password_is_refused_before_it_is_submitted() -> None:
    """It would be kept in the job's record."""
    with pytest.raises(SoundfleetError, match="user name") as caught:
        check_source(parse_source("https://user:secret@files.test/song.wav"))  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
