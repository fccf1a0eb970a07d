"""What a hostile page, client or file cannot do."""

import asyncio
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import scipy.io
from web.conftest import ORIGIN, StandInRunner, launch_server, stop_server

from ecg.data.leads import LEADS
from ecg.data.reviews import read_reviews
from ecg.runtime.executors import ONE_PROCESS
from ecg.web import access as access_module
from ecg.web.access import MOST_BODY_BYTES, MOST_UPLOAD_BYTES, POLICY, Access, make_access
from ecg.web.catalogue import load_catalogue

TRAVERSALS = ("../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/app.py", "....//app.py", "/etc/passwd",
              "..\\..\\app.py", "A0001/../A0001", "./A0001", "A0001.hea", "A0001\0", "file:///etc/passwd", "~root",
              "%00", "\r\nX-Injected: 1", ".session.key", "*", "")  # fmt: skip
MARKUP = '<img src=x onerror="alert(1)">'
HEADER = b"x 1 500\nx 16 1/mV 16 0 0 0 0 I"
JSON = {"content-type": "application/json"}


def raw_request(port, content, timeout=20):
    """Send bytes to a server, and return all that it sends back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        received = b""
        try:
            connection.sendall(content)
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:  # it closed while bytes that it did not read were on their way
            pass
    return received


def status_of(received):
    return int(received.split(b" ", 2)[1]) if received else None


@pytest.fixture(scope="module")
def port(synthetic_recordings, tmp_path_factory):
    """The port of a server in a process of its own, for requests that change nothing."""
    process, port, _ = launch_server(synthetic_recordings, tmp_path_factory.mktemp("server"))
    yield port
    stop_server(process)


class TestPaths:
    @pytest.mark.parametrize("path", ["/api/recording", "/api/signal", "/api/reviews"])
    @pytest.mark.parametrize("name", TRAVERSALS)
    def test_a_record_is_looked_up_and_never_part_of_a_path(self, client, path, name):
        answer = client.get(path, params={"record": name})
        assert answer.status_code == 404 and answer.json() == {"error": "There is no recording of this name."}
        assert "X-Injected" not in answer.headers

    @pytest.mark.parametrize("name", TRAVERSALS)
    def test_no_parameter_reaches_another_file(self, client, name):
        for parameter in ("search", "label", "predicted", "source"):
            answer = client.get("/api/recordings", params={parameter: name})
            assert answer.status_code == 200 and "root:" not in answer.text
        for parameter in ("sort", "kind", "offset", "limit"):
            assert client.get("/api/recordings", params={"sort": "name", parameter: name}).status_code in (200, 400)
        for record in (name, "A0001"):
            review = {"record": record, "class": name, "verdict": name, "comment": name}
            assert client.post("/api/reviews", json=review).status_code in (400, 404, 409)

    def test_a_reviewer_cannot_write_outside_the_folder(self, make_client, make_bench, tmp_path):
        bench = make_bench()
        client = make_client(bench)
        before = sorted(tmp_path.rglob("*"))
        for name in (*TRAVERSALS, "..", "a/b", "/tmp/x", "CON:", "x\n", "x" * 300):
            answer = client.post("/api/login", json={"reviewer": name})
            assert answer.status_code == 400 or "/" not in answer.json()["reviewer"], name
        assert sorted(tmp_path.rglob("*")) == before

    def test_only_static_files_are_served(self, port):
        for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fapp.py", "/static//etc/passwd",
                     "/static/%2fetc%2fpasswd", "/static/..%5capp.py", "/static/index.html%00.js", "/static/",
                     "/static/../../../../../../etc/passwd", "//etc/passwd", "/../etc/passwd"):  # fmt: skip
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            received = raw_request(port, request.encode())
            assert status_of(received) in (400, 404), path
            assert b"root:" not in received and b"Starlette" not in received
        request = f"GET /static/index.html HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        assert status_of(raw_request(port, request.encode())) == 200


class TestMarkup:
    @pytest.fixture
    def recordings(self, tmp_path):
        """A recording whose every name is markup."""
        folder, name = tmp_path / "data", MARKUP.replace(" ", "_").replace("/", "")
        folder.mkdir()
        lines = [f"{name} 2 500 1000", f"{name}.mat 16+24 1000/mV 16 0 0 0 0 I",
                 f'{name}.mat 16+24 1000/mV 16 0 0 0 0 II, <script>alert("1")</script>', f"#Age: {MARKUP}",
                 f"#Sex: {MARKUP}", f"#Dx: {MARKUP},426783006,</script><script>alert(1)</script>"]  # fmt: skip
        (folder / f"{name}.hea").write_text("\n".join(lines))
        signal = np.random.default_rng(0).integers(-500, 500, (2, 1000)).astype(np.int16)
        scipy.io.savemat(folder / f"{name}.mat", {"val": signal}, format="4")
        return load_catalogue(folder, tmp_path / "cache", executor=ONE_PROCESS)

    def test_names_with_markup_are_data(self, make_client, make_bench, recordings):
        client = make_client(make_bench(recordings, reviewer="Ann"))
        [name] = recordings.keys
        assert "<" in name
        for answer in (client.get("/api/recordings"), client.get("/api/recording", params={"record": name})):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == POLICY
        assert [label["code"] for label in answer.json()["labels"]][0].startswith("<img")
        answer = client.get("/api/signal", params={"record": name})
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream"
        leads = answer.headers["X-Leads"]
        assert leads.count(",") == 1 and not set(leads) & set("<> \r\n\"'"), "one comma between the two leads"

    def test_a_comment_with_markup_is_kept_and_is_data(self, make_client, make_bench, recordings):
        bench = make_bench(recordings, reviewer="Ann")
        comment = f'=cmd|x;{MARKUP}","AF\r\nx,y\0\x1b[2J'
        review = {"record": recordings.keys[0], "class": "AF", "verdict": "present", "comment": comment}
        answer = make_client(bench).post("/api/reviews", json=review)
        assert answer.status_code == 201
        [saved] = read_reviews(bench.reviews.folder)
        assert saved.comment == answer.json()["comment"] and MARKUP in saved.comment
        assert saved.comment.isprintable()


class TestOrigins:
    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8000", "http://127.0.0.1",
                                        "http://localhost:8000", "http://127.0.0.1:8000.evil.example", "",
                                        "http://127.0.0.1:8001"])  # fmt: skip
    def test_pages_of_other_sites_change_nothing(self, make_client, make_bench, catalogue, origin):
        bench = make_bench(reviewer="Ann")
        client = make_client(bench)
        review = {"record": catalogue.keys[0], "class": "AF", "verdict": "present", "comment": ""}
        for path, content in (("/api/reviews", review), ("/api/login", {"reviewer": "Eve"}), ("/api/logout", {}),
                              ("/api/predict", {})):  # fmt: skip
            answer = client.post(path, json=content, headers={"origin": origin})
            assert answer.status_code == 403 and "error" in answer.json()
            assert "access-control-allow-origin" not in answer.headers
        assert not bench.reviews.compared_reviews()

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
    def test_pages_of_other_sites_read_nothing(self, client, site):
        headers = {"sec-fetch-site": site}
        assert client.get("/api/session", headers=headers).status_code == 403
        assert client.get("/static/main.js", headers=headers).status_code == 403
        assert client.post("/api/logout", json={}, headers=headers).status_code == 403
        assert client.get("/", headers=headers).status_code == 200, "a link may lead here"

    def test_the_page_itself_may_do_all(self, client):
        headers = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        assert client.post("/api/login", json={"reviewer": "Ann"}, headers=headers).status_code == 200
        assert client.get("/api/session", headers=headers).json()["reviewer"] == "Ann"

    def test_other_sites_get_no_leave_to_ask(self, client):
        headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
        answer = client.options("/api/reviews", headers=headers)
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_a_form_of_another_site_is_refused_even_without_an_origin(self, client):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
            headers = {} if kind is None else {"content-type": kind}
            answer = client.post("/api/login", content=b'{"reviewer": "Eve"}', headers=headers)
            assert answer.status_code == 415
        assert client.post("/api/predict", json={}).status_code == 415

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1:8001", "127.0.0.1", "", ":8000",
                                      "127.0.0.1.evil.example:8000", "127.0.0.1:8000@evil.example", "192.168.0.1:8000",
                                      "localhost.:8000", "[::1]", "[::2]:8000", "127.0.0.1:80_00",
                                      "127.0.0.1:²"])  # fmt: skip
    def test_a_foreign_host_is_refused(self, client, host):
        """Such as a name that its owner points to this machine (DNS rebinding)."""
        for path in ("/", "/api/session", "/api/recordings"):
            answer = client.get(path, headers={"host": host.encode()})
            assert answer.status_code == 403 and "error" in answer.json()

    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LocalHost:8000", "[::1]:8000"])
    def test_names_of_this_machine_are_served(self, client, host):
        assert client.get("/api/session", headers={"host": host}).status_code == 200

    def test_a_request_without_a_host_or_with_two_is_refused(self, port):
        for lines in ("", f"Host: evil.example:{port}\r\n", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"):
            received = raw_request(port, f"GET / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert status_of(received) in (400, 403)
        assert status_of(raw_request(port, b"GET / HTTP/1.0\r\n\r\n")) == 403

    def test_only_addresses_and_own_names_are_served_on_all_interfaces(self):
        access = Access("0.0.0.0", 8000, "token")
        for host in ("10.1.2.3:8000", "[fe80::1]:8000", "127.0.0.1:8000", f"{socket.gethostname()}:8000"):
            assert access.allows_host(host), host
        for host in ("evil.example:8000", "10.1.2.3:8001", "10.1.2.3.evil.example:8000", "0x7f000001:8000"):
            assert not access.allows_host(host), host


class TestTokens:
    @pytest.fixture
    def access(self):
        return Access("192.168.0.7", 8000, "the-token")

    @pytest.fixture
    def remote(self, make_client, make_bench, access):
        client = make_client(make_bench(), access)
        client.base_url = "http://192.168.0.7:8000"
        return client

    def test_every_server_has_a_token_of_its_own(self):
        hosts = ("127.0.0.1", "::1", "0.0.0.0", "192.168.0.7", "::", "8.8.8.8")
        accesses = [make_access(host, 8000, host) for host in hosts]
        assert len({access.token for access in accesses}) == len(hosts)
        assert min(len(access.token) for access in accesses) >= 43, "32 random bytes"
        assert [access.is_local for access in accesses] == [True, True, False, False, False, False]
        assert all(access.token not in repr(access) for access in accesses)
        assert make_access("127.0.0.1", 8000, "127.0.0.1", has_token=False).token == ""

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer the-tokem"}, {"authorization": "Bearer"},
                                         {"authorization": "Basic the-token"}, {"cookie": "access-8000=x"},
                                         {"authorization": "Bearer the-token2"}, {"cookie": "access=the-token"},
                                         {"authorization": "Bearer \u00fc".encode()}])  # fmt: skip
    def test_nothing_is_served_without_the_token(self, remote, headers):
        for path in ("/", "/static/main.js", "/api/session", "/api/recordings", "/nothing"):
            answer = remote.get(path, headers=headers)
            assert answer.status_code == 401 and list(answer.json()) == ["error"]
        for path in ("/api/login", "/api/reviews", "/api/predict", "/api/logout"):
            assert remote.post(path, json={}, headers=headers).status_code == 401

    def test_loopback_is_no_way_around_the_token(self, remote):
        assert remote.get("/api/session", headers={"host": "localhost:8000"}).status_code == 401

    def test_the_address_with_the_token_gives_a_cookie_and_is_left(self, remote, access):
        for query in ("?token=x", "?token=", "?token=the-token&token=x", "?Token=the-token"):
            assert remote.get(f"/{query}", follow_redirects=False).status_code == 401
        assert remote.get("/api/session?token=the-token").status_code == 401, "only the page's address"
        answer = remote.get("/?token=the-token", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("access-8000=the-token;")
        assert "HttpOnly" in cookie and answer.headers["referrer-policy"] == "no-referrer"
        assert "SameSite=lax" in cookie, "strict cookies are not sent after a link of another site"
        assert remote.get("/api/session").status_code == 200
        assert access.url == "http://192.168.0.7:8000/?token=the-token"

    def test_a_link_of_another_site_opens_the_page(self, remote):
        """Such as a link in a terminal in a browser."""
        headers = {"sec-fetch-site": "cross-site", "referer": "http://elsewhere.example/"}
        assert remote.get("/?token=the-token", headers=headers, follow_redirects=True).status_code == 200
        assert remote.get("/api/session", headers=headers).status_code == 403, "but other sites read nothing"

    @pytest.mark.parametrize("is_local", [True, False])
    def test_the_address_logs_in_who_was_named_at_the_start_on_this_machine_only(
        self, make_client, make_bench, is_local
    ):
        access = Access("127.0.0.1", 8000, "the-token", is_local)
        client = make_client(make_bench(reviewer="Ann"), access, logs_in=False)
        client.get("/?token=the-token")
        assert client.get("/api/session").json()["reviewer"] == ("Ann" if is_local else None)
        client.post("/api/login", json={"reviewer": "Bob"})
        client.get("/?token=the-token")
        assert client.get("/api/session").json()["reviewer"] == "Bob", "a browser keeps whom it knows"

    def test_a_person_without_the_token_reads_what_to_do(self, remote):
        answer = remote.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        assert answer.status_code == 401 and answer.headers["content-type"].startswith("text/html")
        assert "open the address that the server printed at its start" in answer.text
        assert answer.headers["content-security-policy"] == POLICY

    def test_programs_send_the_token_as_a_header(self, remote):
        assert remote.get("/api/session", headers={"authorization": "bearer the-token"}).status_code == 200

    @pytest.mark.slow
    def test_a_real_server_for_other_machines_demands_it(self, start_server):
        _, port, token = start_server(host="0.0.0.0")
        url = f"http://127.0.0.1:{port}/api/session"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"authorization": f"Bearer {token}"}).status_code == 200

    def test_a_cookie_of_a_reviewer_cannot_be_made_up(self, client):
        client.post("/api/login", json={"reviewer": "Ann"})
        value = client.cookies["reviewer-8000"].strip('"')
        name, _, digest = value.partition(".")
        for forged in (f"{name}.{'0' * 64}", name, f"{name}.", f"Qm9i.{digest}", ".", "\u00ff.\u00ff", f".{digest}"):
            client.cookies.clear()
            answer = client.get("/api/session", headers={"cookie": f"reviewer-8000={forged}".encode()})
            assert answer.status_code == 200 and answer.json()["reviewer"] is None


class TestBodies:
    def test_every_answer_has_the_headers_of_a_strict_page(self, make_client, make_bench):
        bench = make_bench(runner=StandInRunner(lambda *task: 1 / 0))
        client = make_client(bench)
        answers = [client.get("/"), client.get("/static/main.js"), client.get("/nothing"), client.get("/api/session"),
                   client.post("/api/login", content=b"x"), client.put("/"),
                   client.get("/", headers={"host": "evil.example"}),
                   client.post("/api/predict", files={"header": HEADER, "signal": b"x"})]  # fmt: skip
        assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 415, 405, 403, 500]
        for answer in answers:
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "unsafe" not in POLICY and "*" not in POLICY and "http" not in POLICY
        assert "division" not in answers[-1].text, "no inside of the server"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"null", b"NaN", b'{"reviewer": NaN}', b"\xff",
                                         b'{"reviewer": ["Ann"]}', b'{"reviewer": 1e999}', b'{"reviewer":' + b"9" * 5000
                                         + b"}", b"[" * 30000, b'{"a":' * 6000 + b"1" + b"}" * 6000, b'{"x": "Ann"}',
                                         b'{"reviewer": "Ann", "x": ' + b"[" * 50 + b"]" * 50 + b"}",
                                         b'{"reviewer": "\\ud800"}'])  # fmt: skip
    def test_malformed_json_is_refused(self, client, content):
        answer = client.post("/api/login", content=content, headers=JSON)
        assert answer.status_code == 400 and list(answer.json()) == ["error"]

    def test_large_bodies_are_refused(self, client, make_client, make_bench):
        answer = client.post("/api/login", content=b'{"reviewer": "' + b"x" * MOST_BODY_BYTES + b'"}', headers=JSON)
        assert answer.status_code == 413
        answer = client.post("/api/predict", files={"header": b"x", "signal": bytes(MOST_UPLOAD_BYTES)})
        assert answer.status_code == 413 and "33,554,432" in answer.json()["error"]

    def test_what_comes_is_counted_and_not_what_is_announced(self, port):
        head = f"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        chunked = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
        assert status_of(raw_request(port, chunked + chunk * 40 + b"0\r\n\r\n")) == 413
        assert status_of(raw_request(port, chunked + chunk * 1000)) in (413, None), "not all of it is read"
        announced = head.encode() + b"Content-Length: 999999999999\r\n\r\n{"
        assert status_of(raw_request(port, announced)) == 413
        shorter = head.encode() + b'Content-Length: 5\r\nConnection: close\r\n\r\n{"reviewer": "Ann"}'
        assert status_of(raw_request(port, shorter)) == 400
        for lines in (b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: x",
                      b"Content-Length: 5\r\nTransfer-Encoding: chunked"):  # fmt: skip
            request = head.encode() + lines + b"\r\nConnection: close\r\n\r\n{}"
            assert status_of(raw_request(port, request)) in (400, 413), lines
        assert httpx.get(f"http://127.0.0.1:{port}/api/session").status_code == 200

    def test_slow_bodies_are_given_up(self, client, monkeypatch, make_client, make_bench):
        monkeypatch.setattr(access_module, "IDLE_SECONDS", 0.2)
        app = client.app

        async def ask():
            sent, waiting = [], asyncio.Event()

            async def receive():
                if not sent:
                    sent.append(1)
                    return {"type": "http.request", "body": b"{", "more_body": True}
                await waiting.wait()

            answers = []

            async def send(message):
                answers.append(message)

            scope = {"type": "http", "method": "POST", "path": "/api/login", "query_string": b"", "scheme": "http",
                     "headers": [(b"host", b"127.0.0.1:8000")]}  # fmt: skip
            await app(scope, receive, send)
            return answers

        answers = asyncio.run(ask())
        assert answers[0]["status"] == 408 and b"slowly" in answers[1]["body"]

    @pytest.mark.slow
    def test_a_body_that_drips_is_given_up_in_time(self, start_server):
        _, port, _ = start_server(body_seconds=1)
        head = f"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 60000\r\n\r\n"
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as connection:
            connection.sendall(head.encode())
            received = b""
            while not received and time.monotonic() < start + 20:
                connection.sendall(b"x")
                try:
                    received = connection.recv(65536)
                except TimeoutError:
                    continue
        assert status_of(received) == 408 and 0.9 < time.monotonic() - start < 10

    @pytest.mark.parametrize(
        "head",
        [
            "POST /api/login HTTP/1.1\r\nHost: evil.example",
            "GET / HTTP/1.1\r\nHost: x",
            "POST /api/predict HTTP/1.1\r\nExpect: 100-continue\r\nHost: evil.example",
        ],
    )
    def test_a_refused_request_ends_its_connection(self, port, head):
        """Otherwise a client could keep it for ever with a body that never ends."""
        length = 40 if "Expect" not in head else 10**6
        lines = f"{head}\r\nContent-Length: {length}\r\n\r\n"
        received = raw_request(port, lines.encode() + b"x" * 40)
        assert status_of(received) == 403 and b"connection: close" in received.lower()
        assert b"100 continue" not in received.lower()

    @pytest.mark.slow
    def test_a_refused_request_is_given_up_soon_if_its_body_does_not_come(self, start_server):
        _, port, _ = start_server(drain_seconds=0.5)
        start = time.monotonic()
        head = "POST /api/predict HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000\r\n\r\n"
        received = raw_request(port, head.encode())
        assert status_of(received) == 408 and time.monotonic() - start < 10

    @pytest.mark.slow
    def test_the_connections_are_limited_and_the_longest_idle_one_makes_room(self, start_server):
        _, port, _ = start_server(most_connections=10)
        idle = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
        assert httpx.get(f"http://127.0.0.1:{port}/api/session").status_code == 200
        for connection in idle[:20]:
            assert connection.recv(1) == b"", "closed"
        idle[-1].sendall(f"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert status_of(idle[-1].recv(65536)) == 200
        for connection in idle:
            connection.close()

    @pytest.mark.slow
    def test_a_client_that_does_not_take_what_it_asked_for_is_left(self, start_server, tmp_path):
        data, samples = tmp_path / "data", 10**6
        data.mkdir()
        lines = [f"x 12 500 {samples}", *(f"x.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS)]
        (data / "x.hea").write_text("\n".join(lines))
        signals = np.random.default_rng(0).integers(-500, 500, (12, samples)).astype(np.int16)
        scipy.io.savemat(data / "x.mat", {"val": signals}, format="4")
        _, port, _ = start_server(data, stall_seconds=1)
        request = f"GET /api/signal?record=x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        assert len(raw_request(port, request, 60)) > 24 * samples, "who takes it gets all"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request)
            assert connection.recv(100)
            time.sleep(8)
            received = 0
            with suppress(ConnectionResetError):
                while chunk := connection.recv(2**20):
                    received += len(chunk)
        assert received < 24 * samples

    @pytest.mark.slow
    def test_slow_clients_do_not_keep_others_waiting_and_are_left(self, start_server):
        _, port, _ = start_server(head_seconds=1)
        head = f"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n\r\n{{".encode()
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head[:20])
        start = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/api/session").status_code == 200
        assert time.monotonic() - start < 5
        for number, connection in enumerate(slow):
            connection.settimeout(15)
            if number % 2 == 0:
                assert connection.recv(1) == b"", "closed, since its first lines did not come"
            connection.close()

    @pytest.mark.parametrize("files", [
        [], [("header", b"x")], [("signal", b"x")], [("header", b"x"), ("signal", b"x"), ("signal", b"y")],
        [("header", b"x"), ("signal", b"x"), ("more", b"x")], [("part", b"x")] * 5000,
    ])  # fmt: skip
    def test_forms_with_other_parts_are_refused(self, client, files):
        form = [(name, (name, content)) for name, content in files]
        answer = client.post("/api/predict", files=form or {"": b""})
        assert answer.status_code == 400 and list(answer.json()) == ["error"]

    def test_malformed_forms_are_refused(self, client):
        part = b"--x\r\nContent-Disposition: form-data"
        for kind, content in (("", b"x"), ("; boundary=", b"--\r\n"), ("; boundary=x", part + b"\r\n\r\n\r\n"),
                              ("; boundary=x", b"nonsense"), ("; boundary=x", b""),
                              ("; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5000),
                              ("; boundary=x", part + b"; name=header\r\n\r\nx\r\n--x--\r\n")):  # fmt: skip
            kind = f"multipart/form-data{kind}"
            answer = client.post("/api/predict", content=content, headers={"content-type": kind})
            assert answer.status_code == 400 and list(answer.json()) == ["error"], (kind, content[:40])

    @pytest.mark.parametrize("file", ["/etc/passwd", "../A0001.mat", "..", "C:\\x", "a\0b"])
    def test_a_header_that_is_sent_names_no_file_of_the_server(self, make_client, make_bench, file):
        runner = StandInRunner()
        text = f"x 1 500 5\n{file} 16+24 1000/mV 16 0 0 0 0 I\n"
        answer = make_client(make_bench(runner=runner)).post(
            "/api/predict", files={"header": text.encode(), "signal": b"x"}
        )
        assert answer.status_code == 422 and runner.tasks == []

    def test_binary_headers_are_refused(self, client):
        for content in (b"", b"\xff\xfex\0", bytes(100), b"\x80" * 100, b"x" * 2**21, "x 2 500\n".encode("utf-16")):
            answer = client.post("/api/predict", files={"header": content, "signal": b"x"})
            assert answer.status_code == 422 and "header" in answer.json()["error"].lower()


class TestLoad:
    @pytest.mark.slow
    def test_five_hundred_requests_at_once_get_right_answers(self, start_server, catalogue):
        _, port, _ = start_server()

        async def ask():
            limits = httpx.Limits(max_connections=500)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=120) as client:
                await client.post("/api/login", json={"reviewer": "Ann"})
                calls = []
                for number in range(500):
                    record = catalogue.keys[number % 60]
                    if number % 5 == 0:
                        calls.append(client.get("/api/recording", params={"record": record}))
                    elif number % 5 == 1:
                        calls.append(client.get("/api/recordings", params={"search": record, "sort": "name"}))
                    elif number % 5 == 2:
                        calls.append(client.get("/api/signal", params={"record": record}))
                    elif number % 5 == 3:
                        path = catalogue.path(number % 60)
                        content = path.read_bytes(), path.with_suffix(".mat").read_bytes()
                        files = {"header": content[0], "signal": content[1]}
                        calls.append(client.post("/api/predict", files=files))
                    else:
                        review = {"record": record, "class": "AF", "verdict": "absent", "comment": str(number)}
                        calls.append(client.post("/api/reviews", json=review))
                return await asyncio.gather(*calls)

        for number, answer in enumerate(asyncio.run(ask())):
            record = catalogue.keys[number % 60]
            assert answer.status_code == (201 if number % 5 == 4 else 200), answer.text
            if number % 5 == 0:
                assert answer.json()["record"] == record
            elif number % 5 == 1:
                assert [item["record"] for item in answer.json()["items"]] == [record]
            elif number % 5 == 2:
                assert len(answer.content) == 2 * 12 * int(answer.headers["X-Samples"])
            elif number % 5 == 3:
                assert answer.json()["record"] == record.rpartition("/")[2]
            else:
                assert (answer.json()["record"], answer.json()["comment"]) == (record, str(number))

    def test_too_many_bytes_at_once_are_refused_and_forgotten(self, client, monkeypatch):
        monkeypatch.setattr(access_module, "MOST_BUFFERED_BYTES", 1000)
        answer = client.post("/api/login", content=b"x" * 2000, headers=JSON)
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert client.app.buffered == 0
        assert client.post("/api/login", json={"reviewer": "Ann"}).status_code == 200

    @pytest.mark.slow
    def test_a_killed_server_loses_no_review_that_it_confirmed(self, start_server, catalogue, tmp_path):
        process, port, _ = start_server()
        confirmed, ended = [], threading.Event()

        def give_reviews(reviewer):
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                try:
                    client.post("/api/login", json={"reviewer": reviewer})
                    for number in range(100_000):
                        review = {"record": catalogue.keys[number % 60], "class": "AF", "verdict": "present",
                                  "comment": f"{number}"}  # fmt: skip
                        answer = client.post("/api/reviews", json=review)
                        assert answer.status_code == 201
                        confirmed.append((reviewer, answer.json()["record"], number))
                except httpx.TransportError:
                    ended.set()

        threads = [threading.Thread(target=give_reviews, args=(name,)) for name in ("Ann", "Bob", "Cho")]
        for thread in threads:
            thread.start()
        while len(confirmed) < 150:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert ended.is_set()
        lines = {
            path.stem: [line.split(",") for line in path.read_text().splitlines()[1:]]
            for path in (tmp_path / "reviews").glob("*.csv")
        }
        stored = {(name, line[0], int(line[3])) for name, rows in lines.items() for line in rows}
        assert stored >= set(confirmed)
        assert len(stored) <= len(confirmed) + 3, "at most one review of each was on its way"
        _, port, _ = start_server()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            client.post("/api/login", json={"reviewer": "Ann"})
            answer = client.get("/api/reviews")
        latest = {record: number for name, record, number in sorted(stored, key=lambda item: item[2]) if name == "Ann"}
        assert {item["record"]: int(item["comment"]) for item in answer.json()["reviews"]} == latest


def test_what_the_page_loads_is_its_own(client):
    """No resource from elsewhere, no inline script or style, which the policy would refuse."""
    static = Path(access_module.__file__).with_name("static")
    for path in static.iterdir():
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text("utf-8")
            assert "innerHTML" not in text and "eval(" not in text and "document.write" not in text, path.name
            assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), path.name
    page = client.get("/").text
    assert "<style" not in page and " style=" not in page and " onclick" not in page
