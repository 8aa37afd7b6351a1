"""What is said of judges of alerts, on alerts whose scores are known."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.compare import Judge, Survey, lines_of, main, table_of


def survey(**columns):
    count = len(next(iter(columns.values())))
    table = {name: [str(value) for value in values] for name, values in columns.items()}
    return Survey([None] * count, table, np.array(columns.get("asteroid", [0] * count)) > 0)


ZTF = survey(
    deep_score=[0.99, 0.95, 0.1, 0.2, 0.5, 0.97, 0.05, 0.99],
    snr=[8, 15, 9, 30, 50, 45, 12, 25],
    positive=[1, 1, 1, 1, 1, 0, 0, 0],
    distnr=[0.1, 9.0, 3.0, 0.2, 0.2, 0.3, 9.0, ""],
    asteroid=[0, 1, 0, 0, 0, 0, 0, 1],
)
RUBIN = survey(sso=["A", "", "B"], asteroid=[1, 0, 1])


def test_one_that_agrees_has_all_of_it():
    judge = Judge("good", ZTF.column("deep_score"), np.array([0.9, 0.1, 0.2]))
    found = lines_of(judge, ZTF, RUBIN, least=0.5)
    assert found["area under the ROC curve, positive"] == 1.0
    assert found["area under the ROC curve, negative"] == 1.0
    assert found["average precision"] == 1.0
    assert found["called real of the bogus ones"] == 0.0
    assert found["called real of ZTF's asteroids"] == 1.0
    assert found["called real of Rubin's asteroids"] == 0.5


def test_alerts_are_told_apart_by_brightness_and_by_what_the_template_has():
    # All are called real but the one of SNR 8, which lies on a star.
    judge = Judge("one", np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]))
    found = lines_of(judge, ZTF, RUBIN, least=0.5)
    assert found["called real of the sure ones, SNR 0 to 10"] == 0.0
    assert found["called real of the sure ones, SNR 10 to 20"] == 1.0
    assert found["called real of the sure ones, SNR above 40"] == 1.0
    assert found["the same on a star or nucleus"] == 0.5
    assert found["the same where the template is empty"] == 1.0
    assert "called real of Rubin's asteroids" not in found


def test_the_table_has_a_column_for_each():
    judges = [Judge("a", ZTF.column("deep_score"), np.ones(3)), Judge("b", np.linspace(0, 1, 8))]
    lines = table_of(judges, ZTF, RUBIN).splitlines()
    assert lines[0] == "| of 8 alerts of ZTF and 3 of Rubin | a | b |"
    assert lines[-1] == "| called real of Rubin's asteroids | 1.000 |  |"


@pytest.mark.parametrize("given", ["nothing", "a=/no/such/folder"])
def test_a_network_is_a_name_and_a_folder(tmp_path, given):
    ended = CliRunner().invoke(main, [str(tmp_path), "--network", given])
    assert ended.exit_code == 2
    assert "write NAME=FOLDER" in ended.output
