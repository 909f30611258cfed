"""The committed records: whole, and in line with what was measured before the project began."""

from pathlib import Path

import numpy as np
import pytest

from bnlib import claims, records, studies

RESULTS = Path(__file__).parents[1] / "results"


def test_every_record_verifies():
    assert records.verify(RESULTS) == []


@pytest.mark.parametrize("study", studies.STUDIES.values(), ids=lambda study: study.name)
def test_no_run_is_missing_and_none_is_of_no_study(study: studies.Study):
    assert study.missing(RESULTS) == []
    assert len(list((RESULTS / study.name).iterdir())) == len(study.runs)


def test_coherence_is_what_was_measured_before():
    """A regression check, not evidence: geometric means over seeds. Layer 90 ranges from 17 to 45; the median of five, 36, would miss."""
    init = records.find("init", RESULTS)
    ratio = {
        norm: np.exp(np.mean([np.log(r.array("coherence_ratio")[[17, 53, 89]]) for r in claims.in_paper_setting(init, norm)], axis=0))
        for norm in ("batch", "none")
    }
    np.testing.assert_allclose(ratio["batch"], [225, 109, 28], rtol=0.25)
    assert ((ratio["none"] > 1) & (ratio["none"] < 6)).all()
