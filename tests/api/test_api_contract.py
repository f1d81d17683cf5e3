"""The OpenAPI document against the running server: complete, with true examples, and kept by every
answer to requests made from it, signed and not."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from apinet import Net
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema_rs import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sn46 import api, client

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 15
CALLERS = (None, "ann", "vali")
"""A stranger, a miner and a validator."""
PROBLEM = "application/problem+json"
RAISED = re.compile(r'Problem\(\s*(\d{3}),\s*"([a-z0-9_]+)"')


async def document_of(net: Net) -> Any:
    return (await net.http.get("/openapi.json")).json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_every_call_has_examples_and_its_refusals(net: Net) -> None:
    document = await document_of(net)
    signed = 0
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["description"], where
        statuses = operation["responses"]
        for status, answer in statuses.items():
            for media, content in answer.get("content", {}).items():
                assert "example" in content, f"{where} {status} {media}"
                assert "schema" in content, f"{where} {status} {media}"
            if int(status) >= 400 and path != "/readyz":
                assert list(answer["content"]) == [PROBLEM], where
                assert answer["content"][PROBLEM]["example"]["status"] == int(status)
        for parameter in operation.get("parameters", []):
            assert parameter["schema"].get("examples") or parameter.get("examples"), where
        if method == "POST":
            content = operation["requestBody"]["content"]["application/json"]
            assert {"schema", "example"} <= set(content), where
            assert {"401", "403", "409", "413", "422", "429", "503"} <= set(statuses), where
        if "security" in operation:
            signed += 1
            assert {"401", "403", "429", "503"} <= set(statuses), where
            for schemes in operation["security"]:
                assert set(schemes) <= set(document["components"]["securitySchemes"])
    assert signed == 10


async def test_every_code_of_the_program_is_documented(net: Net) -> None:
    document = await document_of(net)
    documented: dict[str, set[str]] = {}
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if PROBLEM in answer.get("content", {}):
                code = answer["content"][PROBLEM]["schema"]["properties"]["code"]
                assert documented.setdefault(status, set(code["enum"])) == set(code["enum"]), path
    rooms = [Path(api.__file__).parent, Path(client.__file__).parent]
    sources = [file.read_text() for room in rooms for file in room.rglob("*.py")]
    raised = {found for text in sources for found in RAISED.findall(text)}
    assert len(raised) > 20
    undocumented = {(s, c) for s, c in raised if c not in documented.get(s, ())}
    assert undocumented == {("500", "internal_error")}


async def test_examples_are_of_their_schemas_and_have_their_nulls(net: Net) -> None:
    document = await document_of(net)
    for method, path, operation in operations(document):
        said = list(operation["responses"].values())
        if "requestBody" in operation:
            said.append(operation["requestBody"])
        for content in (content for part in said for content in part.get("content", {}).values()):
            # A reference within a schema is one within the document.
            whole = {**content["schema"], "components": document["components"]}
            wrong = list(Draft202012Validator(whole).iter_errors(content["example"]))
            assert not wrong, (method, path, wrong)

    def example(path: str, method: str = "get") -> Any:
        answer = document["paths"][f"/api/v1/{path}"][method]["responses"]["200"]
        return answer["content"]["application/json"]["example"]

    assert example("zipcode-assignments/current")["selection"]["seed"] is None
    assert example("zipcode-assignments/stats")["draw_error"] is None
    assert example("s3-access/validator-read", "post")["next_cursor"] is None
    # The draw of an ended epoch has its seed.
    draw = example("epochs/{epoch_id}/draw")
    assert draw["assignment"]["selection"]["seed"] == draw["seed"]
    assert (await document_of(net)) == document


async def test_the_requests_in_examples_are_understood(net: Net) -> None:
    """Each example body passes as far as its values can: to an epoch that is long past."""
    for method, path, operation in operations(await document_of(net)):
        if method != "POST":
            continue
        example = operation["requestBody"]["content"]["application/json"]["example"]
        request = net.http.build_request("POST", path, json=example)
        request.headers.update(net.btauth("vali", "POST", path, request.content))
        answer = await net.http.send(request)
        assert answer.status_code not in (401, 422, 500), (path, answer.text)


def sweep(document: Any, net: Net, mode: GenerationMode) -> dict[str | None, Counter[int]]:
    """Send what schemathesis makes of the document, each request as everyone, check every answer
    against the document, and count each one's statuses."""
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str | None, Counter[int]] = {who: Counter() for who in CALLERS}
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            refusable = operation.method.upper() == "POST" or operation.path.endswith("/epochs")
            if mode is GenerationMode.NEGATIVE and not refusable:
                continue  # Any text is a good path, so nothing about these can be wrong.

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                for who, statuses in seen.items():
                    prepared = session.prepare_request(
                        requests.Request(**case.as_transport_kwargs(base_url=net.url))
                    )
                    if who is not None:
                        sign(net, who, prepared)
                    answer = session.send(prepared, timeout=20)
                    statuses[answer.status_code] += 1
                    case.validate_response(answer, checks=CHECKS)

            send()
    return seen


def sign(net: Net, who: str, prepared: requests.PreparedRequest) -> None:
    body = prepared.body or b""
    raw = body.encode() if isinstance(body, str) else body
    for name in list(prepared.headers):
        if name.lower() in ("authorization", "x-hotkey", "x-timestamp"):
            del prepared.headers[name]
    assert prepared.method is not None
    prepared.headers.update(net.btauth(who, prepared.method, prepared.path_url, raw))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_every_answer_is_documented(net: Net, mode: GenerationMode) -> None:
    document = await document_of(net)
    seen = await asyncio.to_thread(sweep, document, net, mode)
    assert max(max(statuses) for statuses in seen.values()) < 500
    assert seen[None][401]
    assert seen["ann"][403]
    for who in ("ann", "vali"):
        assert seen[who][422] + seen[who][404]
    if mode is GenerationMode.POSITIVE:
        assert all(statuses[200] for statuses in seen.values())
