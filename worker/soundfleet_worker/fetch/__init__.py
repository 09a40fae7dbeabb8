"""Fetching of remote sources: a file behind http(s), within the operator's policy."""

from .guard import read_networks
from .policy import Fetched, FetchPolicy
from .url import fetch_url

__all__ = ["FetchPolicy", "Fetched", "fetch_url", "read_networks"]
