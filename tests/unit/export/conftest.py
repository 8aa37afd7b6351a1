import pytest

from tests.unit.export import samples


@pytest.fixture(scope="session")
def model():
    return samples.unet()


@pytest.fixture(scope="session")
def converted(model):
    from astrotriton.export.convert import convert

    return convert(model, samples.card(), "ab12")
