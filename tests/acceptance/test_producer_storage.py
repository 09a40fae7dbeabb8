"""``Storage`` against a real S3 server."""

from __future__ import annotations

import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.stacks import Stack

from soundfleet_producer.local import S3Server
from soundfleet_producer.storage import PART_BYTES, Storage
from soundfleet_schemas import ErrorCode, InvalidRequest, SettingsError, SoundfleetError, SourceError, StorageError


@pytest.fixture
def storage(stack: Stack) -> Storage:
    """The test's corner of the bucket."""
    return stack.storage


def test_an_upload_is_named_by_its_content(storage: Storage, tmp_path: Path) -> None:
    """The same bytes under two names are one object; the suffix is kept for people."""
    for name in ("a.MP3", "b.mp3"):
        (tmp_path / name).write_bytes(b"same")
    first, second = (storage.upload_source(tmp_path / name) for name in ("a.MP3", "b.mp3"))
    assert first.key == second.key == f"uploads/{first.sha256}.mp3"
    assert (first.filename, second.filename, first.size_bytes) == ("a.MP3", "b.mp3", 4)


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"bad\xff\xfename.mp3", "bad??name.mp3"), ("bärlauch.mp3".encode(), "bärlauch.mp3")],
)
def test_a_file_whose_name_is_no_text_is_uploaded(storage: Storage, tmp_path: Path, name: bytes, shown: str) -> None:
    """Names on a disk are bytes; a message carries characters."""
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"music")
    source = storage.upload_source(path)
    assert source.filename == shown
    assert source.key == f"uploads/{source.sha256}.mp3"


def test_a_directory_is_called_one(storage: Storage, tmp_path: Path) -> None:
    """It is there, but it is no file."""
    with pytest.raises(InvalidRequest, match="is a directory"):
        storage.upload_source(tmp_path)


def test_an_endpoint_that_is_no_address_is_a_setting_error(stack: Stack) -> None:
    """The message names the variable, before anything is sent."""
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL_S3"):
        Storage.from_settings(stack.settings, stack.env | {"AWS_ENDPOINT_URL_S3": "bogus"}).exists("x")


def test_an_upload_that_is_there_is_not_sent_again(storage: Storage, stack: Stack, tmp_path: Path) -> None:
    """A second submission of a song costs one HEAD."""
    song = tmp_path / "song.wav"
    song.write_bytes(b"music")
    key = storage.upload_source(song).key
    stored = stack.local.directory / "s3" / "objects" / storage.bucket / stack.namespace / key
    written = stored.stat().st_mtime_ns
    storage.upload_source(song)
    assert stored.stat().st_mtime_ns == written


def test_an_upload_that_was_cut_off_is_sent_again(storage: Storage, tmp_path: Path) -> None:
    """An object of another size is not the file."""
    song = tmp_path / "song.wav"
    song.write_bytes(b"music")
    source = storage.upload_source(song)
    storage.put_bytes(source.key, b"mus", "audio/wav")
    assert storage.upload_source(song) == source
    assert storage.get_bytes(source.key) == b"music"


def test_a_large_file_goes_in_parts_and_comes_back_whole(storage: Storage, tmp_path: Path) -> None:
    """Multipart up, ranged requests down."""
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(range(256)) * (2 * PART_BYTES // 256) + b"tail")
    storage.put_file("big", big, "audio/wav")
    storage.download("big", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == big.read_bytes()


def test_a_source_over_the_limit_is_refused_before_it_is_downloaded(storage: Storage, tmp_path: Path) -> None:
    """The size is asked for first; no file appears."""
    storage.put_bytes("song", b"0123456789", "audio/wav")
    with pytest.raises(SourceError) as caught:
        storage.fetch(None, "song", tmp_path / "song", max_bytes=9)
    assert caught.value.code is ErrorCode.FILE_TOO_LARGE
    assert list(tmp_path.iterdir()) == []
    assert storage.fetch(None, "song", tmp_path / "song", max_bytes=10) == 10


def test_a_named_bucket_takes_the_key_as_it_stands(storage: Storage, stack: Stack, tmp_path: Path) -> None:
    """s3:// addresses know nothing of the fleet's prefix."""
    storage.put_bytes("song", b"music", "audio/wav")
    assert storage.fetch(storage.bucket, f"{stack.namespace}/song", tmp_path / "song", 100) == 5
    with pytest.raises(SourceError) as caught:
        storage.fetch(storage.bucket, "song", tmp_path / "other", 100)
    assert caught.value.code is ErrorCode.SOURCE_NOT_FOUND


def test_a_bucket_that_is_not_there_is_a_source_that_is_not_there(storage: Storage, tmp_path: Path) -> None:
    """The address in the request is wrong, not the producer."""
    with pytest.raises(SourceError) as caught:
        storage.fetch("nobodys", "song", tmp_path / "song", 100)
    assert caught.value.code is ErrorCode.SOURCE_NOT_FOUND


def test_an_address_opens_without_credentials(storage: Storage) -> None:
    """Presigned, and with the content type that was stored."""
    storage.put_bytes("a b/c#d.wav", b"music", "audio/wav")
    with urllib.request.urlopen(storage.url("a b/c#d.wav")) as answer:
        assert answer.read() == b"music"
        assert answer.headers["Content-Type"] == "audio/wav"


def test_an_address_is_the_cdns_where_there_is_one(stack: Stack) -> None:
    """The key stands under the base, quoted, and nothing is signed."""
    settings = msgspec.structs.replace(stack.settings, cdn_base="https://cdn.example/audio/")
    storage = Storage.from_settings(settings, stack.env)
    assert storage.url("jobs/a b.wav") == f"https://cdn.example/audio/{stack.namespace}/jobs/a%20b.wav"


def test_deleting_and_looking(storage: Storage) -> None:
    """Deleting what is not there is no error."""
    storage.put_bytes("note", b"x", "text/plain")
    assert storage.exists("note")
    storage.delete("note")
    storage.delete("note")
    assert not storage.exists("note")


def test_it_is_shared_by_threads(storage: Storage) -> None:
    """One client, many threads, from the very first call on."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.put_bytes(f"n/{n}", str(n).encode(), "text/plain"), range(32)))
        read = list(pool.map(lambda n: storage.get_bytes(f"n/{n}"), range(32)))
    assert read == [str(n).encode() for n in range(32)]


def test_wrong_keys_are_refused_with_what_to_do(stack: Stack) -> None:
    """STORAGE_REFUSED names the settings to look at, and is not retried."""
    storage = Storage.from_settings(stack.settings, stack.env | {"AWS_SECRET_ACCESS_KEY": "w" * 40})
    with pytest.raises(StorageError, match="Check the credentials") as caught:
        storage.put_bytes("note", b"x", "text/plain")
    assert caught.value.code is ErrorCode.STORAGE_REFUSED
    assert not caught.value.info.retryable


def test_no_keys_at_all_say_which_variables_are_missing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh machine learns what to set."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    env = {name: value for name, value in stack.env.items() if "KEY" not in name}
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID") as caught:
        Storage.from_settings(stack.settings, env).put_bytes("note", b"x", "text/plain")
    assert caught.value.code is ErrorCode.STORAGE_REFUSED


def test_a_server_that_is_away_is_retryable(stack: Stack, tmp_path: Path) -> None:
    """STORAGE_UNAVAILABLE names the endpoint's variable."""
    with S3Server(tmp_path) as server:
        env = stack.env | {
            "AWS_ENDPOINT_URL_S3": server.url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        storage = Storage.from_settings(stack.settings, env)
        storage.ensure_bucket()
    with pytest.raises(SoundfleetError, match="AWS_ENDPOINT_URL_S3") as caught:
        storage.put_bytes("note", b"x", "text/plain")
    assert caught.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert caught.value.info.retryable


def test_a_bucket_that_is_not_there_says_so(stack: Stack) -> None:
    """The fleet's own bucket missing is the operator's to mend."""
    settings = msgspec.structs.replace(stack.settings, bucket="missing")
    with pytest.raises(StorageError, match="no such bucket") as caught:
        Storage.from_settings(settings, stack.env).put_bytes("note", b"x", "text/plain")
    assert caught.value.code is ErrorCode.STORAGE_REFUSED


def test_the_bucket_is_created_once(stack: Stack) -> None:
    """Asking again changes nothing."""
    settings = msgspec.structs.replace(stack.settings, bucket=f"{stack.namespace}-bucket")
    storage = Storage.from_settings(settings, stack.env)
    storage.ensure_bucket()
    storage.put_bytes("note", b"x", "text/plain")
    storage.ensure_bucket()
    assert storage.get_bytes("note") == b"x"
