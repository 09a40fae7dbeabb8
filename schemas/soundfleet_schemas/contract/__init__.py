"""The contract for other languages: JSON Schemas and an AsyncAPI document, generated from the structs.

``python -m soundfleet_schemas.contract`` writes them; a test keeps them true.
"""

from .channels import asyncapi
from .documents import MESSAGES, documents

__all__ = ["MESSAGES", "asyncapi", "documents"]
