"""What yt-dlp's failures mean: its own sentences, YouTube's, and the facts below them."""

from __future__ import annotations

import pytest

from soundfleet_schemas import ERRORS, ErrorCode, SourceError
from soundfleet_worker.fetch.video_errors import Fault, clean, code_of, judge

C = ErrorCode

SENTENCES = [
    # YouTube's reasons, with what yt-dlp's extractor adds
    (C.SOURCE_BOT_CHECK, "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the auth"),
    (C.SOURCE_BOT_CHECK, "All player responses are invalid. Your IP is likely being blocked by Youtube"),
    (C.SOURCE_BOT_CHECK, "Video unavailable. YouTube is requiring a captcha challenge before playback"),
    (C.SOURCE_BOT_CHECK, "Got HTTP Error 403 caused by Cloudflare anti-bot challenge; try again with  --impersonate"),
    (C.SOURCE_AGE_RESTRICTED, "Sign in to confirm your age. This video may be inappropriate for some users."),
    (C.SOURCE_AGE_RESTRICTED, "This video is age-restricted and only available on YouTube"),
    (C.SOURCE_PRIVATE, "Private video. Sign in if you've been granted access to this video"),
    (C.SOURCE_PRIVATE, "This video is private"),
    (C.SOURCE_PRIVATE, "Join this channel to get access to members-only content like this video, and other perks."),
    (C.SOURCE_PRIVATE, "This video is available to this channel's members on level: Tomato (or any higher level)."),
    (C.SOURCE_PRIVATE, "This video requires payment to watch"),
    (C.SOURCE_PRIVATE, "This video is only available to Music Premium members"),
    (C.SOURCE_PRIVATE, "This video is only available for registered users. Use --username and --password"),
    (C.SOURCE_PRIVATE, "Please sign in"),
    (C.SOURCE_GEO_BLOCKED, "The uploader has not made this video available in your country"),
    (
        C.SOURCE_GEO_BLOCKED,
        "Video unavailable. This video contains content from SME, who has blocked it in your country",
    ),
    (C.SOURCE_GEO_BLOCKED, "This video is not available from your location due to geo restriction"),
    (C.SOURCE_REMOVED, "Video unavailable. This video has been removed by the uploader"),
    (C.SOURCE_REMOVED, "This video has been removed for violating YouTube's policy on hate speech"),
    (C.SOURCE_REMOVED, "This video is no longer available due to a copyright claim by Somebody"),
    (C.SOURCE_REMOVED, "This video is no longer available because the YouTube account has been terminated."),
    (C.SOURCE_REMOVED, "This live stream recording is not available."),
    (C.SOURCE_REMOVED, "Video unavailable. This video isn't available anymore"),
    (C.SOURCE_REMOVED, "Video unavailable"),
    (C.SOURCE_LIVE, "This live event will begin in a few moments."),
    (C.SOURCE_LIVE, "Premieres in 3 hours"),
    (C.SOURCE_LIVE, "Premiere will begin shortly"),
    (C.SOURCE_LIVE, "Live DASH videos are not supported"),
    (C.SOURCE_UNAVAILABLE, "This content isn't available, try again later. The current session has been rate-limited"),
    (C.SOURCE_UNAVAILABLE, "We're processing this video. Check back later."),
    (C.SOURCE_UNAVAILABLE, "An error occurred. Please try again later"),
    (C.SOURCE_FORBIDDEN, "This video is DRM protected"),
    (C.INVALID_SOURCE, "Incomplete YouTube ID abc. URL https://www.youtube.com/watch?v=abc looks truncated."),
    (C.INVALID_SOURCE, "Did you forget to quote the URL? Remember that & is a meta character in most shells"),
    (C.SOURCE_NOT_FOUND, "YouTube said: The playlist does not exist."),
    (C.UNSUPPORTED_SOURCE, "Unsupported URL: https://example.com/"),
    (C.UNSUPPORTED_SOURCE, "m3u8 download detected but ffmpeg could not be found. Please install"),
]


@pytest.mark.parametrize(("code", "sentence"), SENTENCES)
def test_a_sentence_has_one_meaning(code: ErrorCode, sentence: str) -> None:
    """The same with and without yt-dlp's prefix; what cannot get better by itself is not retried."""
    assert code_of(sentence) is code
    found = judge(Fault("www.youtube.com", True, f"ERROR: [youtube] aaaaaaaaaaa: {sentence}"))
    assert found.code is code
    assert found.info.retryable is ERRORS[code].retryable
    assert "--" not in str(found)


@pytest.mark.parametrize("code", [code for code in ErrorCode if code.startswith("SOURCE_")])
def test_a_bad_source_is_of_one_class_and_says_what_to_do(code: ErrorCode) -> None:
    """Only a host that is away and a job that is not finished may be tried again."""
    spec = ERRORS[code]
    assert spec.raises is SourceError
    assert spec.action
    assert spec.retryable is (code in (C.SOURCE_UNAVAILABLE, C.SOURCE_JOB_PENDING))


@pytest.mark.parametrize(
    ("status", "youtube", "code"),
    [
        (401, False, C.SOURCE_FORBIDDEN),
        (403, False, C.SOURCE_FORBIDDEN),
        (403, True, C.SOURCE_UNAVAILABLE),
        (404, True, C.SOURCE_NOT_FOUND),
        (410, False, C.SOURCE_NOT_FOUND),
        (429, True, C.SOURCE_UNAVAILABLE),
        (451, False, C.SOURCE_GEO_BLOCKED),
        (503, True, C.SOURCE_UNAVAILABLE),
    ],
)
def test_a_status_has_a_meaning_whatever_the_address_in_the_sentence(
    status: int, youtube: bool, code: ErrorCode
) -> None:
    """A host named login.example is not private for that."""
    sentence = f"Unable to download webpage: HTTP Error {status} on login.example (caused by <HTTPError>)"
    assert judge(Fault("login.example", youtube, sentence, status=status)).code is code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("h", False, "Unable to download webpage: timed out", network=True), C.SOURCE_UNAVAILABLE),
        (Fault("h", False, "Unable to download webpage: x", network=True, untrusted=True), C.SOURCE_FORBIDDEN),
        (Fault("h", False, "Unable to download webpage: x", network=True, unknown_host=True), C.SOURCE_NOT_FOUND),
        (Fault("h", False, "Got error: HTTP Error 404: Not Found. Giving up after 2 retries"), C.SOURCE_NOT_FOUND),
        (Fault("h", False, "\r[download] Got error: Read timed out.. Giving up after 2 retries"), C.SOURCE_UNAVAILABLE),
        (Fault("h", False, "Unable to download: file:// URLs are disabled by default"), C.SOURCE_FORBIDDEN),
        (Fault("h", False, "This is only available in your region", status=403), C.SOURCE_GEO_BLOCKED),
        (Fault("h", False, "Requested format is not available"), C.UNSUPPORTED_SOURCE),
        (Fault("h", True, "Requested format is not available"), C.SOURCE_UNAVAILABLE),
        (Fault("h", True, "No video formats found!", notes=["No supported JavaScript runtime"]), C.MISSING_DEPENDENCY),
        (Fault("h", False, "Unable to extract title", expected=False), C.UNSUPPORTED_SOURCE),
        (Fault("h", True, "Failed to extract any player response", expected=False), C.SOURCE_UNAVAILABLE),
        (Fault("h", False, "A sentence that nobody has seen"), C.SOURCE_UNAVAILABLE),
        (Fault("h", False, ""), C.SOURCE_UNAVAILABLE),
    ],
)
def test_facts_decide_where_words_do_not(fault: Fault, code: ErrorCode) -> None:
    """An extractor that knows its host goes before the status; the status before a guess."""
    assert judge(fault).code is code


def test_a_message_is_one_short_line_without_commands() -> None:
    """Colours, prefixes, advice for yt-dlp's users and requests to report go; so does what is too long."""
    message = (
        "\x1b[0;31mERROR:\x1b[0m [youtube:tab] PLx: Something\n is wrong; please report this issue on  https://github"
    )
    assert clean(message) == "Something"
    assert clean("ERROR: Private video. Use --cookies for it") == "Private video"
    assert clean("Sad\u202e news (caused by <X>)") == "Sad news"
    assert len(clean("word " * 1000)) <= 200


@pytest.mark.parametrize(
    ("sentence", "code", "shown"),
    [
        ("Unsupported URL: https://h/private/login?token=s3cret", C.UNSUPPORTED_SOURCE, "Unsupported URL: the address"),
        ("'https://h/?t=s3cret' is not a valid URL", C.INVALID_SOURCE, "'the address' is not a valid URL"),
        ("Page https://h/removed%20by?t=s3cret is odd", C.SOURCE_UNAVAILABLE, "Page the address is odd"),
    ],
)
def test_an_address_in_a_sentence_is_neither_shown_nor_a_reason(sentence: str, code: ErrorCode, shown: str) -> None:
    """It may hold a secret, and a message goes into logs."""
    found = judge(Fault("h", False, sentence))
    assert found.code is code
    assert found.info.message == f"'h': {shown}."
