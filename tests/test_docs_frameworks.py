"""The recipes for web frameworks work: each answers, and its session is one recorded conversation."""

from __future__ import annotations

import os
import subprocess
import sys

from converra.server.run import serve
from tests.markdown import page
from tests.patience import UNHURRIED

DRIVEN = """
import json

from django.conf import settings
from django.test import RequestFactory
from starlette.testclient import TestClient

settings.configure()
hello = [{"role": "user", "content": "[[say:Hello!]]"}]
more = [*hello, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "[[say:Bye!]]"}]
with TestClient(fastapi_app) as http:
    said = [http.post("/chat/fastapi", json=asked).json() for asked in (hello, more)]
    assert http.post("/end/fastapi").status_code == 200
converra.instrument()  # the server has stopped, and with it the recording
flask = flask_app.test_client()
said += [flask.post("/chat/flask", json=asked).text for asked in (hello, more)]
factory = RequestFactory()
for asked in (hello, more):
    answer = django_chat(factory.post("/", json.dumps(asked), "application/json"), "django")
    said.append(json.loads(answer.content)["content"])
assert said == ["Hello!", "Bye!"] * 3, said
for session in ("flask", "django"):
    converra.complete(PROMPT, session)
assert converra.shutdown(60)
"""


def test_the_recipes_record_one_conversation_for_each_session() -> None:
    """In FastAPI, Flask (streamed) and Django: two requests of one chat, completed."""
    code = f"{page('docs/how-to/use-in-a-web-framework.md').code('python')}\n{DRIVEN}"
    with serve() as server:
        environ = os.environ | UNHURRIED | {"CONVERRA_BASE_URL": server.base_url, "CONVERRA_API_KEY": "docs"}
        environ |= {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "docs"}
        ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        found = {each.session_id: each for each in server.store.conversations()[0]}
        said = {
            session: [message["content"] for message in server.store.sent(each)[:4]] for session, each in found.items()
        }
    turns = ["[[say:Hello!]]", "Hello!", "[[say:Bye!]]", "Bye!"]
    assert said == {"fastapi": turns, "flask": turns, "django": turns}
    assert {each.status for each in found.values()} == {"completed"}
