"""The password of a storage URL is in no message, traceback, log, record, page or command line of a child."""

import traceback
from pathlib import Path

import pytest

from bench.tuning.search import SweepTask
from bench.tuning.storage import open_storage
from imgcls.errors import ConfigError
from tests.helpers.commands import command_lines_of_children, start
from tests.helpers.images import MakeFolder

SECRET = "Hunter2"  # noqa: S105 - no secret
ENCODED = "%48unter2"

URLS = {
    "no driver": f"postgresql://me:{SECRET}@127.0.0.1:1/db",
    "no server": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db",
    "percent-encoded": f"postgresql+psycopg://me:{ENCODED}@127.0.0.1:1/db",
    "as an option": f"postgresql+psycopg://me@127.0.0.1:1/db?password={SECRET}",
    "as an option without a server in front": f"postgresql+psycopg:///db?host=127.0.0.1&port=1&password={ENCODED}",
    "of a key": f"postgresql+psycopg://me@127.0.0.1:1/db?sslpassword={SECRET}&sslmode=require",
    "beside a wrong option": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db?nothing={SECRET}",
    "wrong driver": f"postgresql+nodriver://me:{SECRET}@127.0.0.1:1/db",
    "wrong database": f"mysql://me:{SECRET}@127.0.0.1/db",
    "unknown host": f"postgresql+psycopg://me:{SECRET}@no-such-host.invalid/db",
    "with an at sign": f"postgresql+psycopg://me:x@{SECRET}@127.0.0.1:1/db",
    "with a slash": f"postgresql+psycopg://me:x/{SECRET}@127.0.0.1:1/db",
    "no colon": f"postgresql+psycopg//me:{SECRET}@127.0.0.1:1/db",
    "no scheme": f"me:{SECRET}@127.0.0.1/db?password={SECRET}",
    "no number as port": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:port/db",
    "open bracket": f"postgresql+psycopg://me:{SECRET}@[::1/db",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_no_message_or_traceback_holds_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^--storage ") as caught:
        open_storage(url)
    written = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in written
    assert ENCODED not in written
    assert "\n" not in str(caught.value)
    assert "***" in str(caught.value)


def test_what_is_shown_still_names_the_place() -> None:
    for url, shown in (
        (
            f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db?sslmode=x",
            "postgresql+psycopg://me:***@127.0.0.1:1/db?***: ",
        ),
        (f"nonsense {SECRET}@there", "***@there: not a database URL"),
        ("nonsense", "nonsense: not a database URL"),
    ):
        with pytest.raises(ConfigError) as caught:
            open_storage(url)
        assert str(caught.value).startswith(f"--storage {shown}")


def test_texts_of_a_task_do_not_hold_the_url() -> None:
    assert SweepTask.__dataclass_fields__["url"].repr is False


def test_children_and_results_do_not_hold_the_url(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Here a path, as no other URL works without a server: ``test_postgresql.py`` has a password."""
    data, results = make_folder({"cat": 20, "dog": 20}), tmp_path / "results"
    tiny = ("--recipe", "quick", "--weights", "none", "--image-size", "32", "--data", str(data), "--trials", "2")
    (tmp_path / "elsewhere").mkdir()
    url = f"sqlite:///{tmp_path}/elsewhere/{SECRET}.db"
    process = start("sweep", "test_efficientnet", *tiny, "--storage", url, "--results", str(results))
    lines = command_lines_of_children(process.pid)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert any("bench.tuning.worker" in line for line in lines)
    assert not [line for line in lines if SECRET in line]
    assert SECRET not in output
    files = [path for path in results.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
