"""A server of S3 on the loopback, which counts what is asked of it."""

import io
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET: Final = "photos"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Bucket:
    """A bucket, its endpoint, and how often each object was read."""

    def __init__(self, endpoint: str, reads: Counter[str]) -> None:
        import boto3

        self.endpoint, self.reads = endpoint, reads
        session = boto3.Session("key", "secret", region_name="us-east-1")
        self.client: Any = session.client("s3", endpoint_url=endpoint)
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.client.upload_fileobj(io.BytesIO(content), BUCKET, key)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Write all files of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextmanager
def serve() -> Iterator[Bucket]:
    """Serve a bucket until the end of the context."""
    reads: Counter[str] = Counter()
    application = DomainDispatcherApplication(create_backend_app)

    def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and "list-type" not in environ["QUERY_STRING"]:
            reads[environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")] += 1
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Bucket(f"http://127.0.0.1:{server.port}", reads)
    finally:
        server.shutdown()
        server.server_close()
