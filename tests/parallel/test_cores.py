"""How many cores there are for us."""

import pytest

from opero.workers import place


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_the_container_is_read(files, cores, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = place.quota(tmp_path)
    assert found == cores if cores else found > 1000


def test_a_quota_below_one_core_is_still_one_worker(monkeypatch):
    monkeypatch.setattr(place, "quota", lambda: 0.5)
    assert place.cores() == 1
