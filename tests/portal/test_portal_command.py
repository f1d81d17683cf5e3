"""The portal's command line: one clear line where it cannot run."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import polars as pl
import pytest
from portal_process import CALM, portal

from sn46.certificates import trusted
from sn46.localnet.portal import PortalDataError, bundled_sales_path, expected_counts
from sn46.localnet.portal.__main__ import main


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sn46.localnet.portal", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_in_use_is_said_in_one_line(reuse: bool) -> None:
    with socket.socket() as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"sn46 portal: Port {port} on 127.0.0.1 is in use by another program; "
        "choose another with --port.\n"
    )


def test_a_second_portal_does_not_share_the_first_ones_port() -> None:
    with portal(*CALM) as url:
        done = run("--port", url.rsplit(":", 1)[1])
    assert done.returncode == 1
    assert "is in use" in done.stderr


def test_a_port_is_free_again_when_its_portal_has_ended() -> None:
    with portal(*CALM) as url:
        port = url.rsplit(":", 1)[1]
        assert httpx.get(f"{url}/api/search?zip=98103", verify=trusted()).status_code == 200
    with portal(*CALM, "--port", port) as url:
        assert url.endswith(f":{port}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "http"], "--port: 'http' is no port"),
        (["--port", "70000"], "--port: '70000' is no port"),
        (["--page-size", "many"], "--page-size: invalid int value"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--result-limit", "0"], "must be 1 or more"),
        (["--rate", "0"], "request limit"),
        (["--p429", "1.5"], "probabilities"),
        (["--client-rules", "/no/such/rules.json"], "cannot be read: No such file"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(options)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert said in error
    assert error.startswith("sn46 portal: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("{", "are not JSON"),
        ("[]", "the whole"),
        ('{"nobody": {}}', "nobody"),
        ('{"127.0.0.14": {"fail_zips": []}}', "127.0.0.14.fail_zips"),
        ('{"127.0.0.14": {"fail_zipcodes": ["8103"]}}', "127.0.0.14.fail_zipcodes"),
        ('{"127.0.0.14": {"fail_fraction": 2}}', "127.0.0.14.fail_fraction"),
    ],
)
def test_wrong_client_rules_are_said_in_one_line(
    tmp_path: Path, rules: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(rules)
    assert main(["--client-rules", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "192.0.2.1"], "Cannot listen on 192.0.2.1"),
        (["--data", "/no/such/sales.parquet"], "There is no file of sales"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_data_without_the_columns_or_with_unknown_zips_is_refused(tmp_path: Path) -> None:
    raw = pl.read_parquet(bundled_sales_path()).head(3)
    raw.drop("price", "lat").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(PortalDataError, match="lacks the columns price, lat"):
        expected_counts(tmp_path / "less.parquet")
    raw.with_columns(zipcode=pl.lit(99999)).write_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(PortalDataError, match="99999"):
        expected_counts(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("id,price")
    with pytest.raises(PortalDataError, match="not readable"):
        expected_counts(tmp_path / "text.parquet")


def test_other_data_are_served(tmp_path: Path) -> None:
    path = tmp_path / "few.parquet"
    pl.read_parquet(bundled_sales_path()).filter(pl.col("zipcode") == 98039).write_parquet(path)
    with portal(*CALM, "--data", str(path)) as url:
        health = httpx.get(f"{url}/health", verify=trusted()).json()
        assert health["homes"] == expected_counts(path)["98039"]  # type: ignore[index]
