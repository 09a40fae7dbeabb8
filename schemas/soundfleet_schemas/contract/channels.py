"""The AsyncAPI 3.0 document: lane streams, event streams, progress and control channels."""

from __future__ import annotations

from typing import Any

from ..base import SCHEMA_VERSION
from ..enums import Kind, Priority
from ..keys import FETCH, GROUP, WEB

_JOB_ID = {"description": "UUID of the job."}
_WORKER_ID = {"description": "Id of the worker."}
_NAMESPACE = {"description": "The fleet's namespace in braces: the hash tag of a Cluster.", "default": "{soundfleet}"}


def asyncapi() -> dict[str, Any]:
    """Return the document as plain data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Soundfleet",
            "version": str(SCHEMA_VERSION),
            "description": (
                "Messages of a fleet of workers that generate and separate audio. A lane entry is written only by the "
                "submit script, together with the job's record; docs/protocol.md describes the scripts."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "127.0.0.1:6379", "protocol": "redis", "protocolVersion": "6.2"}},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channels() -> dict[str, Any]:
    return {
        "lane": {
            "address": "{namespace}:lane:{kind}.{backend}:{priority}",
            "title": f"Stream with the consumer group {GROUP!r}; an entry per waiting or running job",
            "parameters": {
                "namespace": _NAMESPACE,
                "kind": {
                    "enum": [*(str(kind) for kind in Kind), FETCH],
                    "description": f"What the job does; {FETCH} while a source is to be downloaded from a web address.",
                },
                "backend": {"description": f"Word of a backend: sketch, musicgen, htdemucs, ...; {WEB} of {FETCH}."},
                "priority": {"enum": [str(priority) for priority in Priority]},
            },
            "messages": {"entry": _message("lane_entry")},
        },
        "job": {
            "address": "{namespace}:job:{job_id}",
            "title": "Hash of one job; its field 'request' holds the message",
            "parameters": {"namespace": _NAMESPACE, "job_id": _JOB_ID},
            "messages": {
                "generation_request": _message("generation_request"),
                "separation_request": _message("separation_request"),
            },
        },
        "events": {
            "address": "{namespace}:events:{job_id}",
            "title": "Capped stream; field 'event' of an entry holds the message, the entry's id resumes a watch",
            "parameters": {"namespace": _NAMESPACE, "job_id": _JOB_ID},
            "messages": {"job_event": _message("job_event")},
        },
        "progress": {
            "address": "{namespace}:progress:{job_id}",
            "title": "Pub/sub channel; the same documents as the event stream",
            "parameters": {"namespace": _NAMESPACE, "job_id": _JOB_ID},
            "messages": {"job_event": _message("job_event")},
        },
        "control": {
            "address": "{namespace}:control:{worker_id}",
            "title": "Pub/sub channel on which a worker hears of cancellations",
            "parameters": {"namespace": _NAMESPACE, "worker_id": _WORKER_ID},
            "messages": {"cancelled_job": _message("cancelled_job")},
        },
        "dead": {
            "address": "{namespace}:dead",
            "title": "Capped stream; fields job, reason, error (JSON), attempts, crashes, at_ms, detail",
            "parameters": {"namespace": _NAMESPACE},
            "messages": {"dead_letter": _message("dead_letter")},
        },
    }


def _operations() -> dict[str, Any]:
    return {
        "submit": _operation("send", "job", "A service publishes a job: record, lane entry and bell in one script."),
        "claim": _operation("receive", "lane", "A worker takes jobs: entry, attempt, lease and state in one script."),
        "report": _operation("send", "progress", "A worker tells how far a run is."),
        "watch": _operation("receive", "events", "A service follows a job, from any event on."),
        "cancel": _operation("send", "control", "A service cancels a running job."),
        "inspect": _operation("receive", "dead", "An operator reads what failed for good."),
    }


def _messages() -> dict[str, Any]:
    return {
        "lane_entry": {
            "title": "What a lane holds of a job",
            "payload": {
                "type": "object",
                "properties": {"job": {"type": "string", "format": "uuid"}},
                "required": ["job"],
                "additionalProperties": False,
            },
        },
        "cancelled_job": {
            "title": "Id of the job whose cancellation was asked for",
            "contentType": "text/plain",
            "payload": {"type": "string", "format": "uuid"},
        },
        **{
            stem: {"payload": {"$ref": f"./jsonschema/{stem}.json"}}
            for stem in ("generation_request", "separation_request", "job_event", "dead_letter")
        },
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
