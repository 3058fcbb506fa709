"""``--base REVISION`` and the two versions that all tests here share; without it they are skipped."""

from collections.abc import Iterator

import pytest

from imgcls.errors import ConfigError
from tests.regression.compare import Pair, Sides, fresh_pairs, two_versions
from tests.regression.versions import check_revision


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--base", help="the revision that the working tree is compared with")


def pytest_configure(config: pytest.Config) -> None:
    if revision := config.getoption("--base", None):
        try:
            check_revision(revision)
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def sides(request: pytest.FixtureRequest) -> Iterator[Sides]:
    revision = request.config.getoption("--base", None)
    if revision is None:
        pytest.skip("no --base to compare with: nox -s regression")
    with two_versions(revision) as both:
        yield both


@pytest.fixture(scope="session")
def pairs(sides: Sides) -> Iterator[list[Pair]]:
    with fresh_pairs(sides.base, sides.head, sides.base_trained.onnx) as started:
        yield started
