"""`SynthGANTest`, as a real Slicer runs it: with the real worker and a bundled model."""

import unittest

import pytest

import SynthGAN
from SynthGANPanel import environment


@pytest.mark.slow
def test_self_test_passes(app, scene):
    assert environment.missingPackages() == []
    suite = unittest.TestLoader().loadTestsFromTestCase(SynthGAN.SynthGANTest)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    assert result.wasSuccessful()
    assert result.testsRun == suite.countTestCases() >= SynthGAN.SynthGANTest.MINIMUM_TEST_COUNT


def test_self_test_counts_its_tests(scene, monkeypatch):
    for name in [name for name in dir(SynthGAN.SynthGANTest) if name.startswith("test_")][1:]:
        monkeypatch.delattr(SynthGAN.SynthGANTest, name)
    with pytest.raises(AssertionError, match="Only 1 of 12 tests"):
        SynthGAN.SynthGANTest().runTest()


def test_self_test_without_packages_checks_the_refusal(scene, monkeypatch):
    from host import packaging

    monkeypatch.setattr(packaging, "installed", {"torch": False})
    SynthGAN.SynthGANTest().runTest()
