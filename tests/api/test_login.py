"""Logging in: a cookie in the place of the token, forms that only our pages send, and what each token may do."""

from __future__ import annotations

import pytest
from api_fake import TOKEN, full
from flask.testing import FlaskClient

from layerline_api.app import create_app
from layerline_api.guard import COOKIE, SESSION_S, session, session_holder
from layerline_api.page.login import own
from layerline_api.settings import ServerSettings
from layerline_api.tokens import Token, digest

READ, WRITE = "only-reads", "only-writes"
READER = Token("reader", digest(READ), frozenset({"read"}))
SETTINGS = ServerSettings(
    token=TOKEN, tokens=(READER, Token("writer", digest(WRITE), frozenset({"write"}))), loopback_only=False
)
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(full(), SETTINGS).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_one_logs_in_and_out(client: FlaskClient) -> None:
    """Who looks at a page is led to the form, from there back to the page, and after logging out no further."""
    asked = client.get("/services?since=1h", headers=BROWSER)
    assert (asked.status_code, asked.headers["Location"]) == (303, "/login?next=%2Fservices%3Fsince%3D1h")
    form = client.get(asked.headers["Location"])
    assert 'type="password"' in form.text
    assert "log out" not in form.text
    answer = client.post(asked.headers["Location"], data={"token": TOKEN}, headers={"Origin": "http://localhost"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/services?since=1h")
    page = client.get("/services?since=1h", headers=BROWSER)
    assert (page.status_code, "log out" in page.text) == (200, True)
    assert client.get("/api/v1/requests").status_code == 200  # what scripts of the pages ask
    assert client.post("/logout", headers={"Origin": "http://localhost"}).headers["Location"] == "/login"
    assert client.get("/services", headers=BROWSER).status_code == 303


def test_the_cookie_is_not_the_token(client: FlaskClient) -> None:
    """Scripts cannot read it, other sites cannot send it, it ends, and it holds nothing of the token."""
    cookie = client.post("/login", data={"token": TOKEN}).headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION_S}"):
        assert part in cookie
    assert TOKEN not in cookie
    assert "Secure" not in cookie
    by_https = client.post("/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in by_https.headers["Set-Cookie"]


def test_a_cookie_ends_with_its_time_and_its_token() -> None:
    """It is of no use later, with another end, another token, or where it is cut."""
    own_token, *_ = tokens = SETTINGS.all_tokens
    made = session(own_token, now_s=1000)
    until, _, signature = made.partition(".")
    assert session_holder(made, tokens, now_s=1000 + SESSION_S - 1) == own_token
    assert session_holder(made, tokens, now_s=1000 + SESSION_S) is None
    for forged in (
        f"{int(until) + 9}.{signature}",
        f"{until}.{signature[:-1]}",
        f"{until}.",
        "",
        ".",
        "٣.a",
        f"{until}.é",
    ):
        assert session_holder(forged, tokens, now_s=1000) is None
    assert session_holder(made, [Token.of("other", "another")], now_s=1000) is None
    assert session_holder(session(READER, now_s=1000), tokens, now_s=1000) == READER
    assert session_holder(session(tokens[2], now_s=1000), tokens, now_s=1000) is None  # it may only write


@pytest.mark.parametrize(
    ("given", "said"),
    [("nope", "not the token"), ("", "not the token"), ("é", "not the token"), (WRITE, "may only send")],
)
def test_a_wrong_token_is_answered_with_the_form(client: FlaskClient, given: str, said: str) -> None:
    """401, why, and the form again; nothing is set."""
    answer = client.post("/login?next=/map", data={"token": given})
    assert answer.status_code == 401
    assert said in answer.text
    assert "next=/map" in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost.evil.example", "http://localhost:81"]
)
def test_forms_of_other_pages_are_refused(client: FlaskClient, origin: str) -> None:
    """What a page of somebody else's sends has no effect, even with the cookie."""
    client.post("/login", data={"token": TOKEN})
    for path in ("/login", "/logout", "/api/v1/sql", "/api/v1/monitors"):
        answer = client.post(path, data={"token": TOKEN}, headers={"Origin": origin})
        assert answer.status_code == 403, path
    assert client.get("/readyz").status_code == 200  # still logged in
    behind_a_proxy = {"Origin": "https://layerline.example", "X-Forwarded-Host": "layerline.example"}
    assert client.post("/login", data={"token": TOKEN}, headers=behind_a_proxy).status_code == 303


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        ("/map?since=1h", "/map?since=1h"), ("//evil.example", "/"), ("/\\evil.example", "/"),
        ("https://evil.example", "/"), ("javascript:alert(1)", "/"), ("", "/"), ("/a\r\nSet-Cookie: b", "/"),
    ],
)  # fmt: skip
def test_the_login_leads_to_pages_of_this_server_only(address: str, leads: str) -> None:
    """A link to the login cannot lead elsewhere."""
    assert own(address) == leads


@pytest.mark.parametrize(
    ("method", "path", "reads", "writes", "both"),
    [
        ("GET", "/", 200, 403, 200),
        ("GET", "/api/v1/requests", 200, 403, 200),
        ("GET", "/metrics", 200, 403, 200),
        ("POST", "/api/v1/sql", 200, 403, 200),
        ("POST", "/v1/traces", 403, 415, 415),
        ("POST", "/api/v1/events", 403, 400, 400),
        ("DELETE", "/api/v1/slos/aaaaaaaaaaaa", 403, 403, 404),
    ],
)
def test_what_each_token_may_do(
    client: FlaskClient, method: str, path: str, reads: int, writes: int, both: int
) -> None:
    """One token asks, one sends, and only the one for both changes what is kept."""
    body = {"sql": "SELECT 1"} if path.endswith("sql") else {} if path.endswith("events") else None
    for token, status in ((READ, reads), (WRITE, writes), (TOKEN, both)):
        answer = client.open(path, method=method, headers=bearer(token), json=body)
        assert answer.status_code == status, token
    assert client.open(path, method=method, json=body).status_code == 401


def test_pages_say_what_is_wrong_to_who_looks_at_them() -> None:
    """A browser gets a page with a way on; a program the problem's JSON; the API always JSON."""
    client = create_app(full()).test_client()
    for path, status, said in (
        ("/nothing", 404, "There is nothing here"),
        (f"/requests/{'a' * 32}", 404, "there is no request with trace id"),
        ("/requests/<script>", 400, "lower-case hex digits"),
    ):
        page = client.get(path, headers=BROWSER)
        assert (page.status_code, page.content_type) == (status, "text/html; charset=utf-8")
        assert said in page.text
        assert 'href="/"' in page.text
        assert "<script>" not in page.text.replace("<script src", "")
        assert client.get(path).content_type == "application/problem+json"
    assert client.get("/api/v1/nothing", headers=BROWSER).content_type == "application/problem+json"
    foreign = client.get("/", headers={**BROWSER, "Host": "evil.example"})
    assert (foreign.status_code, "This is not allowed" in foreign.text) == (403, True)


def test_without_a_token_there_is_nothing_to_log_in_to() -> None:
    """The form is not shown, and sending it leads on."""
    client = create_app(full()).test_client()
    assert "nothing to log in to" in client.get("/login").text
    assert client.post("/login", data={"token": "x"}).headers["Location"] == "/"
