"""What yt-dlp's failures mean: from a host's sentence to one of the fleet's codes.

``RULES`` is read from the top; the first pattern that is found in the sentence decides. Sentences are YouTube's, those
of yt-dlp's extractor for YouTube, and those that its other extractors have in common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.errors import show

_C = ErrorCode
_RULES: tuple[tuple[ErrorCode, str], ...] = (
    (
        _C.SOURCE_BOT_CHECK,
        r"not a bot|anti-bot|captcha|ip is likely being blocked|automated (requests|queries)|unusual traffic",
    ),
    (_C.SOURCE_UNAVAILABLE, r"rate.?limited|try again later|too many requests|processing this video|check back later"),
    (_C.SOURCE_AGE_RESTRICTED, r"confirm your age|age.?restricted|age.?verif|inappropriate for some users"),
    (
        _C.SOURCE_GEO_BLOCKED,
        r"in your (country|region|location)|from your (country|region|location)|geo.?(restrict|block)",
    ),
    (_C.SOURCE_REMOVED, r"recording is not available|copyright|(been|was) (removed|deleted|terminated)|removed by"),
    (_C.SOURCE_REMOVED, r"no longer (available|exists)|account (has been )?(closed|terminated)|violat(es|ed|ing|ion)"),
    (
        _C.SOURCE_LIVE,
        r"\bpremieres? (in|will)|live event (will|has)|will begin (in|shortly)|will be (live|available) (in|at)"
        r"|is (upcoming|offline)|not currently live|live stream|live dash|livestream|has not started",
    ),
    (_C.SOURCE_FORBIDDEN, r"\bdrm\b"),
    (
        _C.SOURCE_PRIVATE,
        r"private|members?.only|join this channel|channel's members|premium members|requires? (payment|purchase)"
        r"|only available (for|to) (registered|subscri|paid|premium)|\b(sign|log|logged).?in\b|login|authenticat"
        r"|subscribers|password|paid (content|members)|purchase",
    ),
    (_C.INVALID_SOURCE, r"looks truncated|incomplete youtube id|forget to quote|not a valid url|without video id"),
    (_C.SOURCE_NOT_FOUND, r"does(n't| not) exist|do(es)? the playlist exist|not found"),
    (_C.SOURCE_REMOVED, r"(video|content) (is )?(un|isn't |is not |not )available|not available anymore"),
    (
        _C.UNSUPPORTED_SOURCE,
        r"unsupported url|no suitable extractor|ffmpeg|no media found|unsupported features|format is not available"
        r"|no video formats|not supported|only images",
    ),
)
RULES = tuple((code, re.compile(pattern, re.IGNORECASE)) for code, pattern in _RULES)

_NO_RUNTIME = re.compile(r"no supported javascript runtime", re.IGNORECASE)
_NO_FORMAT = re.compile(r"format is not available|no video formats|only images", re.IGNORECASE)
_TRANSFER = re.compile(r"(unable|failed) to download|http error|got error", re.IGNORECASE)
"""Begins the sentences of the transport, which quote addresses; a status or an exception says more."""
_STATUS = re.compile(r"http error (\d{3})\b", re.IGNORECASE)
_SCHEME = re.compile(r"urls are disabled|url scheme|url type", re.IGNORECASE)
"""An address that is not of http: a file of this machine, for instance."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^\s*(ERROR:\s*)?(\[[^\]]{1,40}\]\s*)?([\w-]{1,40}:\s+)?")
_ADVICE = re.compile(
    r"\s*(;? ?please report this issue|\(caused by |Use --|Also see |See  ?https|For more information|You might want"
    r"|This video is available in |It is recommended to|Confirm you are on the latest|;? ?please install"
    r"|;? ?try again with |\n).*",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"<>]+", re.IGNORECASE)
"""May hold a secret, which is not for a log, and words that look like a reason."""
_MOST_CHARS = 200
_UPDATE = "Update yt-dlp on the worker: pip install -U 'yt-dlp[default,deno]'"
_INSTALL = "Install it on the worker: pip install 'yt-dlp[default,deno]'"
_DEFAULT_ACTIONS: dict[ErrorCode, str] = {
    _C.UNSUPPORTED_SOURCE: "Give the address of a page with one video, or upload the file.",
    _C.SOURCE_FORBIDDEN: "Upload the file.",
    _C.SOURCE_NOT_FOUND: "Check the address.",
    _C.INVALID_SOURCE: "Check the address.",
}


class Fault(NamedTuple):
    """The facts of a failure."""

    host: str
    """Of the address that was asked for."""
    youtube: bool
    sentence: str = ""
    """In whoever's words; empty when there are none."""
    status: int | None = None
    """Of the HTTP response that ended it."""
    network: bool = False
    """It failed below HTTP."""
    untrusted: bool = False
    """The certificate is not trusted."""
    unknown_host: bool = False
    expected: bool = True
    """yt-dlp knows this failure; else its extractor does not fit the page."""
    notes: Sequence[str] = ()
    """Its warnings."""


def code_of(sentence: str) -> ErrorCode | None:
    """Return what a sentence means, where that is known."""
    plain = sentence.replace("’", "'")
    return next((code for code, pattern in RULES if pattern.search(plain)), None)


def clean(message: str) -> str:
    """Make one short sentence of yt-dlp's message: without its name, its advice on options and its addresses."""
    text = _ADDRESS.sub("the address", _ADVICE.sub("", _PREFIX.sub("", _COLOUR.sub("", message), count=1)))
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:_MOST_CHARS].rstrip(" .;,")


def judge(fault: Fault) -> SoundfleetError:
    """Return the error of a failure."""
    host, sentence = show(fault.host), clean(fault.sentence)
    code = None if _TRANSFER.match(sentence) else code_of(sentence)
    if _NO_FORMAT.search(sentence):
        return _no_format(fault, host)
    if code is not None:  # an extractor knows what a status means on its host
        return error(code, f"{host}: {sentence}", _DEFAULT_ACTIONS.get(code))
    if _SCHEME.search(fault.sentence):
        return error(_C.SOURCE_FORBIDDEN, f"{host} leads to an address that is not of http", "Upload the file.")
    if fault.unknown_host:
        return error(_C.SOURCE_NOT_FOUND, f"a host that {host} leads to has no address", "Check the address.")
    if fault.untrusted:
        return error(_C.SOURCE_FORBIDDEN, f"a certificate on the way from {host} is not trusted")
    if (status := fault.status or _status_in(sentence)) is not None:
        return _of_status(status, fault.youtube, host)
    if fault.network or _TRANSFER.match(sentence):
        return error(_C.SOURCE_UNAVAILABLE, f"a connection on the way from {host} failed")
    return _unknown(fault, host, sentence)


def _status_in(sentence: str) -> int | None:
    """Return the status that a transport's sentence tells: after its last try yt-dlp has nothing but words."""
    found = _STATUS.search(sentence) if _TRANSFER.match(sentence) else None
    return int(found[1]) if found else None


def _of_status(status: int, youtube: bool, host: str) -> SoundfleetError:
    message = f"{host} answers with status {status}"
    if status == 451:
        return error(_C.SOURCE_GEO_BLOCKED, message)
    if status in (401, 403, 407):
        if youtube:  # an address of its media that it does not honour: outdated, or not for this network
            return error(_C.SOURCE_UNAVAILABLE, message, _UPDATE)
        return error(_C.SOURCE_FORBIDDEN, message)
    if status in (408, 425, 429) or status >= 500:
        return error(_C.SOURCE_UNAVAILABLE, message)
    return error(_C.SOURCE_NOT_FOUND, message, "Check the address.")


def _no_format(fault: Fault, host: str) -> SoundfleetError:
    if any(_NO_RUNTIME.search(note) for note in fault.notes):
        message = f"{host} needs a JavaScript runtime, and the worker has no deno"
        return error(_C.MISSING_DEPENDENCY, message, _INSTALL)
    if fault.youtube:  # every video of its has sound: yt-dlp was not given it, which changes from week to week
        return error(_C.SOURCE_UNAVAILABLE, f"{host} offers no sound that yt-dlp can fetch", _UPDATE)
    message = f"{host} offers no sound that can be fetched without FFmpeg"
    return error(_C.UNSUPPORTED_SOURCE, message, _DEFAULT_ACTIONS[_C.UNSUPPORTED_SOURCE])


def _unknown(fault: Fault, host: str, sentence: str) -> SoundfleetError:
    message = f"{host}: {sentence}" if sentence else f"yt-dlp cannot read {host}"
    if fault.expected or fault.youtube:
        return error(_C.SOURCE_UNAVAILABLE, message, None if fault.expected else _UPDATE)
    return error(_C.UNSUPPORTED_SOURCE, message, _UPDATE)
