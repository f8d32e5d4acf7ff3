"""The local environment's page: what it shows, what its buttons do, and which requests it refuses."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

import pytest

from listenkeys.view.status import AccountStatus, read_status
from local.clock import VirtualClock
from local.front import VERBS, Controls
from local.page_server import BUTTONS, PageServer
from local.world import World
from tests.leaks import WatchedFunction, search
from tests.scene import Scene
from tests.waiting import SECONDS


@pytest.fixture
def server(world: World, clock: VirtualClock, function: WatchedFunction) -> Iterator[PageServer]:
    def read() -> list[AccountStatus]:
        tables = world.aws.outputs["AccountsTableName"], world.aws.outputs["ListenKeysTableName"]
        return read_status(world.aws.client("dynamodb"), *tables, clock.now())

    def renew(account_id: str) -> str:
        function.invoke({"accounts": [account_id]})
        return f"{account_id} was asked for"

    with PageServer(read, clock.now, Controls(world).do, renew, lambda: ["a run <ended>"]) as made:
        yield made


def ask(server: PageServer, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    """Send a request, with this page's own Host and Origin unless told otherwise."""
    host = urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(host, timeout=SECONDS)
    sent = {"Host": host} | ({"Origin": server.url} if method == "POST" else {}) | headers
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def press(server: PageServer, verb: str, account: str = "") -> str:
    """Press a button and return the page that follows."""
    assert ask(server, "POST", "/do", urlencode({"do": verb, "account": account}))[0] == 303
    return ask(server, "GET", "/")[1]


def test_the_buttons_break_accounts_and_the_page_says_so(server: PageServer, world: World) -> None:
    world.add_account("alice", "a" * 20)
    assert "alice was asked for" in press(server, "renew", "alice")
    assert world.current("alice")["outcome"] == "CREATED"
    page = press(server, "down")
    assert '<button id="down" autofocus' in page
    assert "<option selected>alice" in page
    assert "there is no account nobody" in press(server, "revoke", "nobody")
    assert "there is no command dance" in press(server, "dance", "alice")
    world.add_account("pro", "b" * 20, product="portfolio-pro")
    assert "the stream of portfolio-pro has no orders" in press(server, "order", "pro")


def test_there_is_a_button_for_every_command_of_the_stand_in() -> None:
    assert BUTTONS.keys() == VERBS.keys()


def test_the_part_that_changes_comes_alone(server: PageServer, world: World) -> None:
    world.add_account("<b>", "a" * 20)
    status, html = ask(server, "GET", "/live")
    assert (status, "<!doctype" in html, "<b>1</b> without a live listenKey" in html) == (200, False, True)
    assert 'aria-label="Renew &lt;b&gt;"' in html
    assert "a run &lt;ended&gt;" in html


def test_no_key_stands_on_the_page(server: PageServer, world: Scene) -> None:
    world.add_account("alice", "CANARYapiKey".ljust(64, "0"))
    press(server, "renew", "alice")
    listen_key = world.current("alice")["listenKey"]
    search({listen_key, "CANARYapiKey".ljust(64, "0")}, [ask(server, "GET", "/")[1]])


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.com"},
        {"Host": "rebound.example.com", "Origin": "http://rebound.example.com"},
        {"Origin": "http://other.example.com"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
    ids=["another host", "another host of its own", "another site", "no site", "none"],
)
def test_another_site_cannot_press_a_button(
    server: PageServer, world: World, headers: dict[str, str]
) -> None:
    world.add_account("alice", "a" * 20)
    body = urlencode({"do": "revoke", "account": "alice"})
    assert ask(server, "POST", "/do", body, **headers)[0] == 403
    answer = world.exchange.handle("POST", "/fapi/v1/listenKey", {"X-MBX-APIKEY": "a" * 20})
    assert answer.status == 200


def test_another_site_cannot_read_it(server: PageServer) -> None:
    for path in ("/", "/live"):
        assert ask(server, "GET", path, Host="rebound.example.com")[0] == 403
    assert ask(server, "GET", "/", Host=f"localhost:{urlsplit(server.url).port}")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [("GET", "/other", "", 404), ("POST", "/", "", 400), ("POST", "/do", "x" * 5000, 400)],
)
def test_a_request_from_another_page_is_refused(
    server: PageServer, method: str, path: str, body: str, status: int
) -> None:
    assert ask(server, method, path, body)[0] == status
