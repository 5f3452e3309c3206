"""The meaning of `auto` on a machine, and the warning for an emulated precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.base import precision

X86 = "processor : 0\nmodel name : AMD EPYC 7763\nflags : fpu avx2 {}\n"
ARM = "processor : 0\nBogoMIPS : 243.75\nFeatures : fp asimd {}\n"


@pytest.fixture(autouse=True)
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the content of /proc/cpuinfo."""

    def set_cpuinfo(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        precision.processor_flags.cache_clear()

    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "_capabilities", dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield set_cpuinfo
    precision.processor_flags.cache_clear()


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (X86.format("avx512f"), "fp32"),
        (X86.format("avx512f avx512_bf16"), "bf16"),
        (X86.format("amx_bf16 amx_tile"), "bf16"),
        (ARM.format("i8mm"), "fp32"),
        (ARM.format("i8mm bf16"), "bf16"),
        ("", "fp32"),
    ],
)
def test_auto_is_bf16_where_the_cpu_supports_it(cpuinfo: str, expected: str, processor: Any) -> None:
    processor(cpuinfo)
    assert precision.precision_of("auto") == expected
    assert precision.precision_of("bf16") == "bf16"  # an explicit precision is used
    assert precision.precision_of("fp32") == "fp32"


def test_a_gpu_that_emulates_bf16_does_not_count_as_native_support(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(X86.format("avx512_bf16"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    assert precision.precision_of("auto") == "fp32"
    assert "Tesla T4" in str(precision.emulation_note("bf16"))


def test_a_chosen_precision_that_is_emulated_is_reported(processor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    processor(X86.format("avx512f"))
    for chosen in ("auto", "fp32", "bf16"):
        precision.warn_of_emulation("evaluate", "evaluate.precision", chosen)  # type: ignore[arg-type]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evaluate: warning: bf16 is emulated on AMD EPYC 7763")
    assert line.endswith("Set evaluate.precision: auto")
    processor(X86.format("avx512_bf16"))
    precision.warn_of_emulation("evaluate", "evaluate.precision", "bf16")
    assert capsys.readouterr().err == ""
