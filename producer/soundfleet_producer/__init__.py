"""The client library of the fleet: submit, watch, fetch. Imports neither torch nor boto3."""

from soundfleet_schemas import GenerationRequest, SeparationRequest

from .async_client import AsyncProducer
from .client import Producer
from .queue.verbs import Submitted
from .settings import Settings

__all__ = ["AsyncProducer", "GenerationRequest", "Producer", "SeparationRequest", "Settings", "Submitted"]
