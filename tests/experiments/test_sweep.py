"""Sweeps: the plan, the choice, and going on after a stop."""

import shutil

import pytest
from ml_collections import ConfigDict

from experiments import plan, records, studies, sweep, train
from experiments.configs.values import SettingError
from experiments.plan import Planned, Setting
from mocked_runs import QUIET, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")

SETTINGS = {
    "fine-tune": ((1e-3, None), (1e-2, None)),
    "ftp": ((1e-3, 0.0), (1e-3, 1.0)),
    "wise-ft": ((1e-3, 0.5), (1e-2, 0.5)),
}


def study(**changes):
    config = ConfigDict()
    config.run = small_config()
    config.methods = tuple(SETTINGS)
    config.settings = ConfigDict(SETTINGS)
    config.tune_seeds, config.final_seeds = (0,), (0, 1)
    config.tune = ConfigDict({"evaluation": {"limit": 10}})
    config.final = ConfigDict({"recipe": {"steps": 3}})
    config.update(changes)
    return config


def test_a_run_is_named_after_what_it_varies():
    planned = Planned("tune", "ftp", Setting(1e-3, 0.5), 2)
    assert planned.name == "ftp-lr0.001-kappa0.5-seed2"
    assert Planned("tune", "tpgm", Setting(1e-3, 0.1), 0).name == (
        "tpgm-lr0.001-radius_rate0.1-seed0"
    )
    assert Planned("tune", "fine-tune", Setting(1e-2, None), 0).name == (
        "fine-tune-lr0.01-seed0"
    )


def test_the_best_mean_on_validation_is_chosen_and_of_equals_the_smaller_rate():
    a, b, c = Setting(1e-2, 0.0), Setting(1e-3, 0.0), Setting(1e-3, 1.0)
    scores = {("ftp", a): [0.5, 0.9], ("ftp", b): [0.7, 0.7], ("ftp", c): [0.7, 0.7]}
    assert sweep.select({"ftp": [a, b, c]}, scores) == {"ftp": b}
    scores["ftp", c] = [0.7, 0.71]
    assert sweep.select({"ftp": [a, b, c]}, scores) == {"ftp": c}


def test_a_sweep_tunes_chooses_and_repeats_the_chosen_settings(tmp_path, monkeypatch):
    chosen = sweep.sweep(study(), tmp_path, QUIET)
    found = studies.read(tmp_path / studies.FILE)
    assert len([r for r in found if r["stage"] == "tune"]) == 6
    runs = {(r["stage"], r["run"]): r for r in found}
    for method, setting in chosen.items():
        tuned = [r for r in found if (r["stage"], r["method"]) == ("tune", method)]
        best = runs["tune", Planned("tune", method, setting, 0).name]
        assert best["id_val"] == max(r["id_val"] for r in tuned)
        for seed in (0, 1):
            record = runs["final", Planned("final", method, setting, seed).name]
            assert record["setting"]["learning_rate"] == setting.learning_rate
            assert record.get("steps", 3) == 3  # what `final` says
    # The mixture did not train: it took what fine-tuning had left.
    mixed = runs["tune", "wise-ft-lr0.001-alpha0.5-seed0"]
    trained_from = mixed["config"]["io.trained_from"]
    assert trained_from.endswith("tune/fine-tune-lr0.001-seed0")
    assert "history" not in mixed

    # The file alone says what is finished; the folders of the runs may go.
    shutil.rmtree(tmp_path / "final")
    monkeypatch.setattr(train, "set_up", lambda *_: pytest.fail("it ran again"))
    assert sweep.sweep(study(), tmp_path, QUIET) == chosen
    with pytest.raises(records.RecordError, match=r"jsonl: tune fine.*steps: 2 there"):
        sweep.sweep(study(tune={"recipe": {"steps": 9}}), tmp_path, QUIET)


@pytest.mark.parametrize("final", [{}, {"recipe": {"steps": 3}}])
def test_a_seed_that_tuned_is_not_run_again_unless_the_last_runs_differ(
    tmp_path, final
):
    ran, steps = [], train.train

    def count(setup, *args):
        ran.append((setup.config.recipe.steps, setup.config.seed))
        return steps(setup, *args)

    config = study(methods=("ftp",))
    config.tune, config.final = ConfigDict(), ConfigDict(final)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train", count)
        chosen = sweep.sweep(config, tmp_path, QUIET)["ftp"]
    again = [(3, 0), (3, 1)] if final else [(2, 1)]
    assert ran == [(2, 0), (2, 0), *again]
    runs = {(r["stage"], r["run"]): r for r in studies.read(tmp_path / studies.FILE)}
    first, second = (
        runs["final", Planned("final", "ftp", chosen, seed).name] for seed in (0, 1)
    )
    assert (first["seed"], second["seed"]) == (0, 1)
    same = runs["tune", first["run"]]
    assert (first["evaluation"] == same["evaluation"]) == (not final)
    assert (first["config"] == same["config"]) == (not final)
    # What the final line lacks is read from the run's folder, or run again as it was.
    file = tmp_path / studies.FILE
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    sweep.sweep(config, tmp_path, QUIET)
    assert file.read_bytes() == whole


def test_a_run_is_not_swept_and_a_study_is_not_trained(tmp_path):
    with pytest.raises(SettingError, match=r"config: .* of one run; .*experiments.tr"):
        sweep.sweep(small_config(), tmp_path / "sweep", QUIET)
    with pytest.raises(SettingError, match=r"config: .* of a study; .*experiments.swe"):
        train.run(study(), tmp_path / "run", QUIET)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ()}, "methods: expected at least one"),
        ({"methods": ("ftpp",)}, "methods: expected one of"),
        ({"tune_seeds": ()}, "tune_seeds: expected at least one"),
        ({"tune_seeds": ("a",)}, "tune_seeds: expected a whole number .*, got 'a'"),
        ({"final_seeds": (0.5,)}, "final_seeds: expected a whole number .*, got 0.5"),
        ({"settings": {"ftp": (1e-3, 1.0)}}, "settings.ftp: expected pairs .* 0.001"),
        ({"settings": {"ftp": ((1e-3, "a"),)}}, "settings.ftp: expected pairs .*'a'"),
        ({"settings": {"ftp": ((1e-3, 0.0),) * 2}}, "settings.ftp: .* given twice"),
        ({"settings": {"ftp": ((-1e-3, 0.0),)}}, "settings.ftp: .* from 0 on, got -0"),
        ({"settings": {"ftp": ((1e-3, 2.0),)}}, r"settings.ftp: .*\[0, 1\], got 2"),
        ({"settings": {"fine-tune": ((1e-3, 2.0),)}}, "settings.fine-tune: .*none"),
        ({"tune": {"recipe": {"step": 9}}}, "recipe.step: there is no such option"),
        ({"tune": {"steps": 9}}, "steps: there is no such option"),
    ],
)
def test_a_study_that_cannot_be_swept_is_refused(changes, words, tmp_path):
    with pytest.raises(SettingError, match=words):
        sweep.sweep(study(**changes), tmp_path, QUIET)
    assert not (tmp_path / studies.FILE).exists()


def test_a_part_of_a_study_is_named_in_words_and_the_study_goes_on_from_it(tmp_path):
    whole = study(final_seeds=())
    part = plan.narrowed(whole, ["wise-ft", "fine-tune"])
    assert part.methods == ("fine-tune", "wise-ft")  # which mixes what the first left
    assert whole.methods == tuple(SETTINGS)
    some = sweep.sweep(part, tmp_path, QUIET)
    assert [*some] == ["fine-tune", "wise-ft"]
    lines = studies.read(tmp_path / studies.FILE)
    every = sweep.sweep(whole, tmp_path, QUIET)
    assert {method: every[method] for method in some} == some
    assert studies.read(tmp_path / studies.FILE)[:4] == lines

    rates = tuple((10.0**-i, None) for i in range(6))
    longer = study(methods=("fine-tune",), settings={"fine-tune": rates})
    for budget, places in ((1, [0]), (2, [0, 5]), (3, [0, 2, 5]), (6, range(6))):
        found = plan.narrowed(longer, budget=budget).settings["fine-tune"]
        assert found == tuple(rates[i] for i in places)

    words = ["ftp=1e-3:-,-:0.5,3e-3", "l2-sp=0.1:0.01"]
    given = plan.narrowed(whole, ["ftp", "l2-sp"], given=words).settings
    assert given["ftp"] == ((1e-3, None), (None, 0.5), (3e-3, None))
    assert given["l2-sp"] == ((0.1, 0.01),), "of which the study has none"
    assert given["fine-tune"] == SETTINGS["fine-tune"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ["ftpp"]}, "--methods: expected one of .*Did you mean 'ftp'"),
        ({"methods": ["spd"]}, "settings: expected one of .*; got 'spd'"),
        ({"budget": 3}, "--budget: .* at most the 2 settings of fine-tune, got 3"),
        ({"budget": 0}, "--budget: expected a whole number from 1 on, got 0"),
        ({"given": ["ftpp=1:1"]}, "--settings: expected one of .*Did you mean 'ftp'"),
        ({"given": ["ftp=1;1"]}, "--settings: expected METHOD=RATE.*got 'ftp=1;1'"),
        ({"given": ["ftp=1:1:1"]}, "--settings: expected METHOD=RATE.*1:1:1"),
        ({"given": ["ftp"]}, "--settings: expected METHOD=RATE.*got 'ftp'"),
    ],
)
def test_a_part_that_a_study_does_not_have_is_refused(options, words):
    with pytest.raises(SettingError, match=words):
        plan.settings(plan.narrowed(study(final_seeds=()), **options))


def test_every_method_has_the_same_budget():
    unequal = study()
    unequal.settings.ftp = ((1e-3, 0.0),)
    with pytest.raises(SettingError, match=r"as many for every method.*'ftp': 1"):
        plan.settings(unequal)
    unequal.final_seeds = ()
    assert len(plan.settings(unequal)["ftp"]) == 1, "what is not run again may differ"
