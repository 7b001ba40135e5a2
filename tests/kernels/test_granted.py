"""CPUs and memory granted to the process, read from control groups of both versions, nested ones too."""

import os

import pytest

from xhat.kernels import granted

CPUS = granted.cpus("/none", "/none")
MEMORY = granted.memory("/none", "/none")


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, CPUS),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n", "cpu.max": "max 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "100001 100000\n", "a/cpu.max": "max 100000\n"}, min(CPUS, 2)),
        ("0::/docker/0f\n", {"cpu.max": "70000 100000\n"}, 1),  # the name is the one outside
        ("0::/../other\n", {"cpu.max": "70000 100000\n"}, 1),
        ("0::/a:b\n", {"a:b/cpu.max": "70000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "99999900000 100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "0 100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "-1 100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "100000 0\n"}, CPUS),
        ("0::/\n", {"cpu.max": "nonsense\n"}, CPUS),
        ("nonsense\n", {"cpu.max": "100000 100000\n"}, CPUS),
        (
            "3:cpu,cpuacct:/job\n0::/\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        (
            "3:cpu,cpuacct:/job/step\n",
            {
                "cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "100000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        ("4:cpuset:/job\n", {"cpuset/job/cpu.cfs_quota_us": "1\n", "cpuset/job/cpu.cfs_period_us": "1\n"}, CPUS),
    ],
)
def test_cpus(membership, files, cpus, tmp_path):
    write(tmp_path, {"membership": membership})
    write(tmp_path / "groups", files)
    assert granted.cpus(str(tmp_path / "membership"), str(tmp_path / "groups")) == cpus


def test_parts_of_cpus_are_rounded_up(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    write(tmp_path, {"membership": "0::/\n", "groups/cpu.max": "250000 100000\n"})
    assert granted.cpus("/none", "/none") == 16
    assert granted.cpus(str(tmp_path / "membership"), str(tmp_path / "groups")) == 3


@pytest.mark.parametrize(
    ("membership", "files", "size"),
    [
        ("0::/\n", {"memory.max": "1048576\n"}, 2**20),
        ("0::/a\n", {"a/memory.max": "max\n", "memory.max": "2097152\n"}, 2**21),
        ("4:memory:/job\n", {"memory/job/memory.limit_in_bytes": "3145728\n"}, 3 * 2**20),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MEMORY),
        ("0::/\n", {"memory.max": "nonsense\n"}, MEMORY),
        ("", {}, MEMORY),
    ],
)
@pytest.mark.skipif(not MEMORY, reason="the system does not say")
def test_memory(membership, files, size, tmp_path):
    write(tmp_path, {"membership": membership})
    write(tmp_path / "groups", files)
    assert granted.memory(str(tmp_path / "membership"), str(tmp_path / "groups")) == size


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "membership").write_bytes(b"\xff\xfe0::/\n")
    assert granted.cpus(str(tmp_path / "membership"), str(tmp_path)) == CPUS
