"""Fetching of remote sources within the operator's policy: a file behind http(s), and the sound of a video."""

from .guard import read_networks
from .policy import Fetched, FetchPolicy, OnProgress
from .url import fetch_url
from .video import VideoPolicy, fetch_video, read_hosts, takes

__all__ = [
    "FetchPolicy",
    "Fetched",
    "OnProgress",
    "VideoPolicy",
    "fetch_url",
    "fetch_video",
    "read_hosts",
    "read_networks",
    "takes",
]
