"""GPU names: one spelling belongs to one GPU, and nothing is ever taken for a similar one."""

from __future__ import annotations

import pytest

from providers import gpus

SPELLINGS = [
    # as people write them
    ("RTX4090", "RTX4090"),
    ("rtx 4090", "RTX4090"),
    ("rtx_3090_ti", "RTX3090Ti"),
    ("4090", "RTX4090"),
    ("a6000", "RTXA6000"),
    ("h100-sxm", "H100-SXM"),
    ("a100-80gb", "A100-80GB"),
    # as nvidia-smi writes them
    ("NVIDIA GeForce RTX 4090", "RTX4090"),
    ("NVIDIA H100 80GB HBM3", "H100-SXM"),
    ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
    ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
    ("Tesla V100-SXM2-16GB", "V100-16GB"),
    ("Tesla T4", "T4"),
    ("NVIDIA GH200 480GB", "GH200"),
    ("NVIDIA RTX 6000 Ada Generation", "RTX6000-Ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
    # as clouds write them
    ("AMD Instinct MI300X OAM", "MI300X"),
    ("NVIDIA B300 SXM6 AC", "B300"),
    ("H200 SXM", "H200"),
    ("H200 NVL", "H200-NVL"),
    ("RTX 6000Ada", "RTX6000-Ada"),
    ("RTX 4080S", "RTX4080Super"),
    ("RTX_PRO_6000_WS", "RTX-PRO-6000"),
]

STRANGERS = [
    "RTX 5095",
    "RTX PRO 5090",
    "RTX 4090 D",
    "NVIDIA GeForce RTX 4090 Laptop GPU",
    "V100S-PCIE-32GB",
    "A800",
    "A100X",
    "A1000",
    "RTX A6000 Ada",
    "H20",
    "RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb",
    "NVIDIA",
    "",
]


@pytest.mark.parametrize(("text", "name"), SPELLINGS)
def test_a_spelling_has_one_canonical_name(text: str, name: str) -> None:
    assert gpus.canonical(text) == name


@pytest.mark.parametrize("text", STRANGERS)
def test_nothing_is_taken_for_a_similar_gpu(text: str) -> None:
    assert gpus.canonical(text) is None
    assert gpus.ambiguous(text) == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("H100", ("H100-SXM", "H100-PCIe", "H100-NVL")),
        ("nvidia h100", ("H100-SXM", "H100-PCIe", "H100-NVL")),
        ("A100 SXM4", ("A100-80GB", "A100-40GB")),
        ("Tesla V100", ("V100-32GB", "V100-16GB")),
        ("Quadro RTX 6000", ("RTX6000-Ada", "RTX-PRO-6000", "RTXA6000")),
    ],
)
def test_a_spelling_of_several_gpus_is_none_of_them(text: str, names: tuple[str, ...]) -> None:
    assert gpus.canonical(text) is None
    assert gpus.ambiguous(text) == names


def test_no_alias_belongs_to_two_gpus_or_is_called_ambiguous_as_well() -> None:
    owners: dict[str, set[str]] = {}
    for name in gpus.names():
        for spelling in (name, *gpus.specification(name).aliases):
            owners.setdefault("".join(spelling.casefold().split()).replace("-", "").replace("_", ""), set()).add(name)
            assert gpus.canonical(spelling) == name
            assert gpus.ambiguous(spelling) == ()
    assert {spelling: who for spelling, who in owners.items() if len(who) > 1} == {}


def test_every_row_says_where_its_facts_come_from() -> None:
    for name in gpus.names():
        gpu = gpus.specification(name)
        assert gpu.name == name
        assert gpu.source.startswith("https://")
        assert 4 <= gpu.memory_gb <= 300
        assert gpu.bf16_tflops is None or 10 < gpu.bf16_tflops <= 2500


def test_what_is_meant_by_an_ambiguous_name_exists() -> None:
    for text in ("H100", "A100", "V100", "RTX 6000", "RTX 5000", "RTX 4500", "RTX 4000"):
        assert len(gpus.ambiguous(text)) > 1
        assert set(gpus.ambiguous(text)) <= set(gpus.names())


def test_known_speeds_are_dense() -> None:
    assert gpus.specification("H100-SXM").bf16_tflops == 989.5
    assert gpus.specification("A100-40GB").bf16_tflops == 312
    assert gpus.specification("T4").bf16_tflops is None


def test_an_unknown_name_has_no_specification() -> None:
    with pytest.raises(KeyError):
        gpus.specification("H100")
