"""The floor: PUTs by http.client from a pool of threads, each with a connection of its own; nothing else."""

import http.client
import os
import ssl
import sys
import threading
from urllib.parse import urlsplit

from benchmarks.subjects.accounts import api_keys
from benchmarks.subjects.measure import measured


def main(accounts: int, concurrency: int) -> None:
    url = urlsplit(os.environ["BINANCE_BASE_URL"])
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    todo = iter(api_keys(accounts))
    take = threading.Lock()

    def work() -> None:
        connection = (
            http.client.HTTPSConnection(url.netloc, timeout=5, context=context)
            if url.scheme == "https"
            else http.client.HTTPConnection(url.netloc, timeout=5)
        )
        while True:
            with take:
                key = next(todo, None)
            if key is None:
                connection.close()
                return
            connection.request("PUT", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key})
            connection.getresponse().read()

    with measured():
        threads = [threading.Thread(target=work) for _ in range(min(concurrency, accounts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
