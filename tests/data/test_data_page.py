"""docs/data.md: its questions have the answers that it shows, its columns are those there are."""

import re
from pathlib import Path

import pytest
from county import EPOCHS, county

from sn46.cli import main
from sn46.data.columns import EPOCHS as EPOCH_COLUMNS
from sn46.data.columns import LISTINGS, OBSERVATIONS, Column
from sn46.data.settings import DataSettings

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"### (.*?)\n.*?```sql\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return county().write(tmp_path_factory.mktemp("county") / "export")


@pytest.fixture
def folder(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_CACHE", str(published.parent / "cache"))
    return published


def test_the_page_asks_five_questions() -> None:
    assert len(QUESTIONS) == 5
    assert EPOCHS == 6
    assert "over six epochs" in PAGE


@pytest.mark.parametrize("question", QUESTIONS, ids=[title for title, _, _ in QUESTIONS])
def test_a_question_has_its_answer(
    folder: Path, question: tuple[str, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    _, sql, answer = question
    assert main(["data", "query", sql, "--from", str(folder)]) == 0
    assert capfd.readouterr().out == answer


def shown(column: Column) -> str:
    kind = "STRUCT[]" if column.type.startswith("STRUCT") else column.type
    return f"| `{column.name}` | {kind} | {column.meaning} |"


def test_the_columns_are_those_there_are() -> None:
    lines = PAGE.splitlines()
    missing = [c.name for c in (*LISTINGS, *OBSERVATIONS, *EPOCH_COLUMNS) if shown(c) not in lines]
    assert missing == []


def test_other_queries_of_the_page_run(folder: Path) -> None:
    queries = re.findall(r'sn46 data query "(.*?)"', PAGE)
    queries += re.findall(r"`(SELECT home_id.*?)`", PAGE)
    assert len(queries) == 3
    for sql in queries:
        assert main(["data", "query", sql, "--from", str(folder), "--out", "answer.csv"]) == 0


def test_settings_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", PAGE)) - {"SINGLE_FAMILY"}
    known = {name.upper() for name in DataSettings.model_fields}
    assert named <= known, named - known
    assert {"EPOCH_SECONDS", "CATALOG_URI", "DATA_CACHE", "S3_ACCESS_KEY"} <= named
