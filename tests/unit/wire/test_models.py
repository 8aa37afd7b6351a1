"""What a model of MLflow's is called where it is served."""

import re

import pytest
from pydantic import ValidationError

from astrotriton.settings import ModelConfig
from astrotriton.wire.models import MODEL_NAME, served_name


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("unet_astronomical", "unet_astronomical"),
        ("unet.v1.2", "unet.v1.2"),
        ("My U-Net v1.2", "My_U-Net_v1.2"),
        ("U-Net (final)", "U-Net__final_"),
        (".hidden", "_hidden"),
        ("..", "_."),
        ("Netz für ZTF", "Netz_f_r_ZTF"),
        (" a ", "_a_"),
    ],
)
def test_a_served_name_has_nothing_that_triton_or_a_folder_does_not_take(name, served):
    assert served_name(name) == served
    assert served_name(served) == served
    assert re.fullmatch(MODEL_NAME, served)
    assert ModelConfig(model_name=name).model_name == served


def test_a_model_has_a_name():
    with pytest.raises(ValidationError):
        ModelConfig(model_name="")
