"""Fixes that are tried and applied; hybrid quantization that is proposed, edited, applied."""

from __future__ import annotations

import pytest
from conftest import TESTDATA

import qloupe
from qloupe import errors

CALIB = TESTDATA / "fmnist" / "calib"
TEST = TESTDATA / "fmnist" / "test"
PICTURES = sorted(TEST.glob("*.png"))[:4]


@pytest.fixture(scope="module")
def spoiled(quantized):
    """The model with the range of one value set far too narrow: it clips."""
    value = next(value for value in quantized.values if value.unit.startswith("Conv") and value.precision == "int8")
    low, high = value.range
    return value.name, quantized.with_ranges({value.name: (0.05 * low, 0.05 * high)})


@pytest.fixture(scope="module")
def fixes(spoiled):
    return spoiled[1].try_fixes(PICTURES, n=3)


def test_the_fix_of_a_clipped_value_brings_it_back(spoiled, fixes, quantized):
    name, plan = spoiled
    best = fixes.best
    assert best.layer == name and best.action.kind == "set_range" and best.action.value == name
    tried = best.tried
    assert tried.gain_db > 3 and tried.gain_db == pytest.approx(tried.after_db - tried.before_db) and tried.cost == 0.0
    fixed = fixes.apply(tried.number)
    before, after, good = (each.analyze(PICTURES, views=("entire",), costs=False).outputs[0] for each in (plan, fixed, quantized))
    assert after.metric() > before.metric() + 3
    assert after.metric() > good.metric() - 3
    assert fixed.plan_text != plan.plan_text


def test_to_quantize_again_is_tried_where_there_are_samples(model):
    plain = model.build(CALIB, target="rk3588", algorithm="min_max", optimization_level=0)
    value = next(value for value in plain.values if value.unit.startswith("Conv") and value.precision == "int8")
    plan = plain.with_ranges({value.name: tuple(0.05 * end for end in value.range)})
    without = plan.try_fixes(PICTURES, n=1)
    assert all(finding.action.kind != "requantize" for finding in without.tried)
    fixes = plan.try_fixes(PICTURES, n=1, dataset=CALIB, report=without.report)
    again = next(finding for finding in fixes.tried if finding.action.kind == "requantize")
    assert again.id == "quantizer_settings" and again.action.value is None and again.tried.gain_db > 3
    fixed = fixes.apply(again.tried.number)
    assert fixed.algorithm == "auto"


def test_what_was_tried_is_in_the_report(fixes):
    numbers = sorted({finding.tried.number for finding in fixes.tried})
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) <= 3
    entry = fixes.tried[0]
    stored = next(each for each in fixes.report.data["findings"] if each.get("tried", {}).get("number") == entry.tried.number)
    assert stored["tried"]["gain_db"] == entry.tried.gain_db
    assert f"{entry.tried.gain_db:+.2f} dB" in str(fixes) and "<table>" in fixes._repr_html_()


def test_fixes_that_do_not_exist(fixes, spoiled):
    n = max(finding.tried.number for finding in fixes.tried)
    cases = [
        (lambda: fixes.apply(n + 1), f"there is no fix {n + 1}, expected 1 to {n} of those that were tried"),
        (lambda: fixes.apply(), "apply: expected the numbers of fixes that were tried, got none"),
        (lambda: fixes.apply(0), "apply: fixes are numbered from 1, got 0"),
        (lambda: spoiled[1].try_fixes(PICTURES, n=0), "try_fixes: expected at least 1 fix to try, got 0"),
    ]
    for call, text in cases:
        with pytest.raises(errors.OptionsError) as raised:
            call()
        assert str(raised.value) == text


def test_a_plan_of_another_tool_is_not_edited():
    stored = qloupe.load_quantized(TESTDATA / "quantized" / "ort_qdq_u8s8_channel.onnx", recipe=None)
    import numpy as np

    array = np.zeros((1, 1, 28, 28), np.float32)
    for call in (lambda: stored.try_fixes(array), lambda: stored.propose_hybrid(array, min_cosine=0.9)):
        with pytest.raises(errors.OptionsError, match="another tool quantized it, expected a plan of Model.build"):
            call()


@pytest.fixture(scope="module")
def coarse(model):
    """A plan with one scale for all channels of a weight: there is something to win."""
    return model.build(CALIB, target="rk3588", algorithm="min_max", method="layer", optimization_level=0)


@pytest.fixture(scope="module")
def proposal(coarse):
    goal = coarse.analyze(PICTURES, views=("entire",), costs=False).outputs[0].metric("sqnr_db") + 3
    return goal, coarse.propose_hybrid(PICTURES, min_sqnr_db=goal)


def test_a_proposal_reaches_its_goal_and_nothing_in_it_is_superfluous(coarse, proposal):
    goal, proposed = proposal
    assert proposed.is_reached and proposed.before.worst_sqnr_db < goal <= proposed.after.worst_sqnr_db
    assert proposed.best.worst_sqnr_db >= proposed.after.worst_sqnr_db - 1e-9 or proposed.raised
    measured = proposed.quantized.analyze(PICTURES, views=("entire",), costs=False).outputs[0].metric("sqnr_db")
    assert measured == pytest.approx(proposed.after.worst_sqnr_db, abs=1e-6)
    assert 0 < len(proposed.raised) < len(proposed.units)
    assert proposed.cost == pytest.approx(sum(unit.cost for unit in proposed.raised))
    for left_out in proposed.raised:
        kept = {unit.value: "fp16" for unit in proposed.raised if unit is not left_out}
        without = coarse.with_precisions(kept) if kept else coarse
        assert without.analyze(PICTURES, views=("entire",), costs=False).outputs[0].metric("sqnr_db") < goal, left_out


def test_a_proposal_is_shown(proposal):
    goal, proposed = proposal
    assert proposed.goal == f"at least {goal} dB at the worst output"
    text = str(proposed)
    assert all(unit.value in text for unit in proposed.raised) and "sets were run" in text
    html = proposed._repr_html_()
    assert html.count("<tr>") == 1 + len(proposed.raised)
    pytest.importorskip("pandas")
    assert len(proposed.to_pandas()) == len(proposed.units)


def test_a_proposal_is_edited(model, coarse, proposal, tmp_path):
    _, proposed = proposal
    plan = proposed.save(tmp_path / "model.hybrid.toml")
    assert plan == tmp_path / "model.hybrid.base.plan.toml"
    as_it_is = model.read_hybrid(tmp_path / "model.hybrid.toml")
    precisions = [(value.name, value.precision) for value in proposed.quantized.values]
    assert [(value.name, value.precision) for value in as_it_is.values] == precisions
    unit = proposed.raised[0]
    text = (tmp_path / "model.hybrid.toml").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f'"{unit.value}" ='))
    edited = line.replace('precision = "fp16"', 'precision = "int8"')
    (tmp_path / "edited.toml").write_text(text.replace(line, edited))
    back = coarse.with_hybrid(tmp_path / "edited.toml")
    assert next(value.precision for value in back.values if value.name == unit.value) == "int8"
    (tmp_path / "wrong.toml").write_text(text.replace(f'"{unit.value}" =', f'"{unit.value}x" ='))
    with pytest.raises(errors.PlanError, match=f'the model has no value "{unit.value}x", did you mean'):
        coarse.with_hybrid(tmp_path / "wrong.toml")
    (tmp_path / "layers.cfg").write_text("custom_quantize_layers: {}\nquantize_parameters: {}\n")
    with pytest.raises(errors.OptionsError, match="tells no plan, expected one beside it, plan="):
        model.read_hybrid(tmp_path / "layers.cfg")
    assert model.read_hybrid(tmp_path / "layers.cfg", plan=plan).plan_text == coarse.plan_text


def test_goals(coarse):
    by_labels = coarse.propose_hybrid(TEST, max_drop=100.0, labels=TEST / "labels.csv")
    assert by_labels.is_reached and not by_labels.raised and by_labels.before.drop is not None
    assert all(unit.gain_db is None for unit in by_labels.units), "nothing had to be ranked"
    out_of_reach = coarse.propose_hybrid(PICTURES[:1], min_sqnr_db=1000.0)
    assert not out_of_reach.is_reached and "the goal is not reached" in str(out_of_reach)
    cases = [
        ({}, "the goal: expected one of min_sqnr_db, min_cosine and max_drop, got 0"),
        ({"min_cosine": 0.9, "min_sqnr_db": 3.0}, "the goal: expected one of min_sqnr_db, min_cosine and max_drop, got 2"),
        ({"min_cosine": float("nan")}, "the goal: expected a number, got NaN"),
        ({"max_drop": 1.0}, "a goal of points lost needs the right answers, expected labels"),
    ]
    for goal, text in cases:
        with pytest.raises(errors.OptionsError) as raised:
            coarse.propose_hybrid(PICTURES[:1], **goal)
        assert str(raised.value) == text
