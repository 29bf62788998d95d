"""The API does what its OpenAPI description says, whatever is sent: schemathesis makes up the requests."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from echogen.app.serve import file_reader as serve_reader
from echogen.app.serve import uploads as serve_uploads
from echogen.app.serve.job_queue import JobQueue, Limits
from echogen.app.serve.server import create_app

OPERATIONS = [
    ("/api/status", "GET"),
    ("/api/info", "POST"),
    ("/api/ecg", "POST"),
    ("/api/first-frame", "POST"),
    ("/api/measure", "POST"),
    ("/api/generate", "POST"),
]


@pytest.fixture
def schema(telltale: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The service, with uploads read in this process, which is faster."""

    async def read_here(arguments: list[str], folder: str) -> None:
        serve_reader.main(arguments)

    monkeypatch.setattr(serve_reader, "confine", lambda: None)
    monkeypatch.setattr(serve_uploads, "_run", read_here)
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(JobQueue(telltale, None, Limits(per_minute=1e6, burst=10**6)))
    )


def test_every_operation_is_tried(schema: Any) -> None:
    found = [(result.ok().path, result.ok().method.upper()) for result in schema.get_all_operations()]
    assert sorted(found) == sorted(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
def test_every_answer_is_one_that_is_described(path: str, method: str, mode: GenerationMode, schema: Any) -> None:
    if method == "GET" and mode is GenerationMode.NEGATIVE:
        pytest.skip("nothing can be wrong in a request that takes nothing")

    @settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and path == "/api/generate":
            case.body |= {"seconds": 0.2}
        # Random bytes are allowed as an upload and then, rightly, are no ECG.
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=120)

    fuzz()
