"""The planted faults keep up with the code: running them takes minutes, this does not."""

from __future__ import annotations

import ast

import pytest

from tests.faults.planted import ROOT, Fault, apply, faults


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_the_patch_applies(fault: Fault):
    assert not apply(fault, ROOT, check=True)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_the_tests_it_names_exist(fault: Fault):
    assert fault.falls
    for test in fault.falls:
        path, _, name = test.partition("::")
        assert name in functions(path)


def test_the_faults_that_must_be_found_are_planted():
    assert {fault.name for fault in faults()} >= {
        "fencing-removed",
        "limit-without-lock",
        "close-without-lock",
        "dependency-counted-in-the-settling-transaction",
        "budget-check-removed",
    }
