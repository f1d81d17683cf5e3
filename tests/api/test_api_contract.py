"""The OpenAPI document against the running server: complete, with true examples, and kept by every
answer to requests made from it, signed and not."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from apinet import Net
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 15
PROBLEM = "application/problem+json"


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


def sweep(document: Any, net: Net, who: str | None, mode: GenerationMode) -> Counter[int]:
    """Send what schemathesis makes of the document, check every answer against it, and count
    their statuses."""
    schema = schemathesis.openapi.from_dict(document)
    seen: Counter[int] = Counter()
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
                prepared = session.prepare_request(
                    requests.Request(**case.as_transport_kwargs(base_url=net.url))
                )
                if who is not None:
                    sign(net, who, prepared)
                answer = session.send(prepared, timeout=20)
                seen[answer.status_code] += 1
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
@pytest.mark.parametrize("who", [None, "ann", "vali"])
async def test_every_answer_is_documented(net: Net, who: str | None, mode: GenerationMode) -> None:
    document = await document_of(net)
    seen = await asyncio.to_thread(sweep, document, net, who, mode)
    assert max(seen) < 500
    if who is None:
        assert seen[401]
    if who == "ann":
        assert seen[403]
    if who is not None:
        assert seen[422] + seen[404]
    if mode is GenerationMode.POSITIVE:
        assert seen[200]
