"""Reasons of failed runs name no folder of this machine."""

from pathlib import Path

from bench.runs.failures import neutral


def test_folders_have_neutral_names_and_their_namesakes_keep_theirs() -> None:
    folders = {Path("/srv/photos"): "DATA", Path("/srv/photos/results"): "RESULTS"}
    text = "'/srv/photos/a.png', /srv/photos/results/records, /srv/photos-2/b.png, /srv/photos: missing"
    assert neutral(text, folders) == "'DATA/a.png', RESULTS/records, /srv/photos-2/b.png, DATA: missing"
