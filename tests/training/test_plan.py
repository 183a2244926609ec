"""The plan is a function of corpus, budget and speed; every choice can be overridden."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import SettingError
from charnn.model.evaluate import lanes_layout
from charnn.training import plan as module
from charnn.training import recipe, validations
from charnn.training.plan import Budget, Plan, make_plan
from charnn.training.recipe import SIZES, Facts
from charnn.training.speed import Speed
from charnn.training.validations import affords_full


@dataclass
class Machine:
    """A machine of so many multiplications per second that is never disturbed."""

    rate: float = 1e10
    asked: list[int] = field(default_factory=list)

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        self.asked.append(model.hidden_size)
        characters = self.rate / (12 * model.num_layers * model.hidden_size**2)
        return Speed(train.batch_size * train.seq_len / characters, 1 / (3 * characters), 0.1)

    def elapsed(self) -> float:
        return 2.0


class NoMachine(Machine):
    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        raise AssertionError("measured although the budget does not depend on speed")


FACTS = Facts(train_symbols=1_000_000, val_symbols=111_540, vocabulary_size=65, seed=1)


def planned(budget: Budget, facts: Facts = FACTS, rate: float = 1e10, **given: Any) -> Plan:
    return make_plan(facts, budget, given, Machine(rate))


def test_steps_and_epochs_do_not_depend_on_speed() -> None:
    for budget in (Budget(steps=500), Budget(epochs=3)):
        assert make_plan(FACTS, budget, {}, NoMachine()) == planned(budget)


def test_epochs_become_the_steps_that_read_the_text_so_often() -> None:
    train = planned(Budget(epochs=3)).train
    assert train.steps * train.batch_size * train.seq_len == pytest.approx(3e6, rel=1e-3)


@pytest.mark.medium
@given(st.integers(100, 10**8), st.floats(0.1, 300), st.floats(1.5, 100))
def test_more_minutes_never_give_a_smaller_model(symbols: int, minutes: float, more: float) -> None:
    facts = Facts(symbols, symbols // 9, 65, 1)
    less, most = (planned(Budget(minutes=m), facts) for m in (minutes, minutes * more))
    assert less.model.hidden_size <= most.model.hidden_size


@pytest.mark.medium
@given(st.integers(2000, 10**8), st.floats(1.5, 100), st.integers(10, 10**6))
def test_more_text_never_gives_a_smaller_model(symbols: int, more: float, steps: int) -> None:
    small, large = (
        planned(Budget(steps=steps), Facts(int(n), 1000, 65, 1)) for n in (symbols, symbols * more)
    )
    assert small.model.hidden_size <= large.model.hidden_size
    same = small.model.hidden_size == large.model.hidden_size
    if same and recipe.default_batching(symbols, "fp32") == recipe.default_batching(
        int(symbols * more), "fp32"
    ):
        assert small.model.dropout >= large.model.dropout


@pytest.mark.medium
@given(st.floats(0.5, 100), st.integers(10**5, 10**7), st.integers(2, 10**6))
def test_training_validating_and_saving_fit_the_minutes(
    minutes: float, symbols: int, val_symbols: int
) -> None:
    facts = Facts(symbols, val_symbols, 65, 1)
    plan = planned(Budget(minutes=minutes), facts)
    speed = Machine().measure(plan.model, plan.train, 1)
    validations = -(-plan.train.steps // plan.validation.val_every)
    read = lanes_layout(min(val_symbols, plan.validation.val_characters)).characters_read
    seconds = 2.0 + plan.train.steps * speed.step
    seconds += validations * (read * speed.validated_character + speed.save)
    trained = plan.train.steps * plan.train.batch_size * plan.train.seq_len
    if plan.validation.val_characters < val_symbols and affords_full(trained, val_symbols):
        seconds += lanes_layout(val_symbols).characters_read * speed.validated_character
    if plan.train.steps > module.MIN_STEPS:
        assert seconds <= 60 * minutes + speed.step


@pytest.mark.medium
@given(st.integers(1, 10**6), st.integers(2, 10**7))
def test_validation_costs_less_than_a_tenth_unless_there_is_only_one(
    steps: int, val_symbols: int
) -> None:
    validation = planned(Budget(steps=steps), Facts(10**6, val_symbols, 65, 1)).validation
    assert 1 <= validation.val_every <= steps
    count = -(-steps // validation.val_every)
    assert count <= validations.MAX_VALIDATIONS + 1
    if validation.val_every < steps:
        forward = lanes_layout(min(val_symbols, validation.val_characters)).characters_read / 3
        assert steps // validation.val_every * forward < 0.1 * steps * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell", "gru"), ("hidden_size", 77), ("num_layers", 3), ("embedding_size", 13),
        ("dropout", 0.33), ("seq_len", 21), ("batch_size", 5), ("learning_rate", 0.123),
        ("clip", 0.4), ("patience", 4), ("val_every", 7), ("max_rollbacks", 1),
        ("optimizer", "adamw"), ("weight_decay", 0.7),
    ],
)  # fmt: skip
def test_what_is_given_is_taken(name: str, value: Any) -> None:
    plan = planned(Budget(steps=100), **{name: value})
    settings = plan.model.to_json() | plan.train.to_json() | plan.validation.to_json()
    assert settings[name] == value


def test_a_learning_rate_fits_the_optimizer() -> None:
    for facts, how in (
        (FACTS, recipe.DEFAULT_BATCHING),
        (replace(FACTS, fast_bfloat16=True), recipe.BFLOAT16_BATCHING),
    ):
        adamw, muon = (
            planned(Budget(steps=100), facts, optimizer=name).train.learning_rate
            for name in ("adamw", "muon")
        )
        assert adamw == recipe.ADAMW_RATE
        assert muon == how.learning_rate
    with pytest.raises(SettingError, match="one of adamw, muon"):
        planned(Budget(steps=100), optimizer="sgd")


@given(st.floats(0, 1e15), st.floats(1, 100))
def test_what_is_learned_by_heart_more_easily_never_has_less_against_it(
    exposure: float, more: float
) -> None:
    limits = (recipe.MAX_DROPOUT, recipe.MAX_DECAY)
    for choice, most in zip((recipe.dropout, recipe.weight_decay), limits, strict=True):
        assert 0 <= choice(exposure) <= choice(more * exposure) <= most


def test_a_text_read_often_has_dropout_and_weight_decay_and_one_read_once_has_neither() -> None:
    often, once = (planned(Budget(epochs=epochs)) for epochs in (1000, 1))
    assert often.model.dropout > once.model.dropout == 0
    assert often.train.weight_decay > once.train.weight_decay == recipe.MIN_DECAY
    assert planned(Budget(epochs=1000), optimizer="adamw").train.weight_decay == 0.01


def test_where_bfloat16_is_fast_an_lstm_on_a_cpu_is_trained_in_it_with_more_lanes() -> None:
    fast = replace(FACTS, fast_bfloat16=True)
    train = planned(Budget(steps=100), fast).train
    assert train.precision == "bf16"
    assert train.batch_size > planned(Budget(steps=100)).train.batch_size
    others: list[tuple[Facts, dict[str, Any]]] = [
        (replace(fast, on_cpu=False), {}), (fast, {"cell": "gru"}), (fast, {"precision": "fp32"}),
    ]  # fmt: skip
    for facts, settings in others:
        plans = [planned(Budget(steps=100), which, **settings) for which in (facts, FACTS)]
        assert plans[0] == plans[1]
        assert plans[0].train.precision == "fp32"


def test_a_given_size_is_the_only_one_measured() -> None:
    machine = Machine()
    make_plan(FACTS, Budget(minutes=3), {"hidden_size": 77}, machine)
    assert set(machine.asked) == {77}


@dataclass
class BusyMachine(Machine):
    """One whose steps take three times as long, on average, as they take undisturbed."""

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        quiet = super().measure(model, train, seconds)
        return Speed(3 * quiet.step, quiet.validated_character, quiet.save, quiet.step)


def test_a_busy_machine_trains_the_size_of_a_quiet_one_for_fewer_steps_and_says_so() -> None:
    quiet = planned(Budget(minutes=3))
    busy = make_plan(FACTS, Budget(minutes=3), {}, BusyMachine())
    assert replace(busy.model, dropout=0) == replace(quiet.model, dropout=0)
    assert busy.model.dropout <= quiet.model.dropout
    assert busy.train.steps < quiet.train.steps
    assert "3.0 times as long" in busy.why
    assert "slower" not in quiet.why


def test_few_characters_get_few_lanes_and_a_small_model() -> None:
    plan = planned(Budget(minutes=3), Facts(700, 70, 40, 1))
    assert plan.train.batch_size * plan.train.seq_len <= 700
    assert plan.model.hidden_size == SIZES[0].hidden_size
    assert plan.model.dropout > 0


def test_a_text_is_not_repeated_without_end() -> None:
    plan = planned(Budget(minutes=600), Facts(20_000, 2_000, 60, 1))
    epochs = plan.train.steps * plan.train.batch_size * plan.train.seq_len / 20_000
    assert epochs <= module.MAX_EPOCHS * 1.01
    assert "complete before the time is up" in plan.why


def test_without_validation_text_a_plan_is_made_too() -> None:
    assert planned(Budget(minutes=1), Facts(10**6, 0, 65, 1)).train.steps > 0


@pytest.mark.parametrize("values", [{}, {"minutes": 1, "steps": 2}, {"minutes": 0}, {"steps": -1}])
def test_a_budget_is_one_number_above_zero(values: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Budget(**values)


def test_with_trained_weights_the_rate_is_a_quarter_and_rises_slower_unless_it_is_given() -> None:
    kinds: list[dict[str, Any]] = [{}, {"optimizer": "adamw"}]
    for more in kinds:
        anew = planned(Budget(steps=100), **more).train
        tuned = planned(Budget(steps=100), replace(FACTS, pretrained=True), **more).train
        assert tuned.learning_rate == anew.learning_rate / 4
        assert tuned.warmup > anew.warmup
    chosen: dict[str, Any] = {"learning_rate": 1e-3, "warmup": 0.02}
    train = planned(Budget(steps=100), replace(FACTS, pretrained=True), **chosen).train
    assert (train.learning_rate, train.warmup) == (1e-3, 0.02)


def test_a_budget_that_the_measuring_has_spent_still_trains_a_little() -> None:
    assert make_plan(FACTS, Budget(minutes=0.001), {}, Machine()).train.steps == module.MIN_STEPS


class CrowdedMachine(Machine):
    """A machine on which all threads together are so many times as fast as one."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.threads: list[int] = []

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        self.threads.append(threads)
        slower = self.ratio if threads == 1 else 1.0
        speed = super().measure(model, train, seconds)
        return Speed(speed.step * slower, speed.validated_character)


@pytest.mark.parametrize(("ratio", "chosen"), [(1.7, 0), (0.95, 0), (0.5, 1), (0.05, 1)])
def test_one_thread_is_chosen_where_it_is_faster(ratio: float, chosen: int) -> None:
    machine = CrowdedMachine(ratio)
    plan = make_plan(replace(FACTS, may_choose_threads=True), Budget(minutes=3), {}, machine)
    assert plan.threads == chosen
    assert set(machine.threads[2:]) == {chosen}, "sizes are measured with the threads of the run"


class Bfloat16Machine(Machine):
    """One on which bfloat16 is faster by a factor; `measured` notes what was tried."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.measured: list[tuple[str, int]] = []

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        self.measured.append((train.precision, threads))
        speed = super().measure(model, train, seconds)
        return Speed(speed.step / (self.factor if train.precision == "bf16" else 1), 1e-6)


@pytest.mark.parametrize(("factor", "chosen"), [(0.5, "fp32"), (1.05, "fp32"), (1.4, "bf16")])
def test_bfloat16_is_chosen_where_it_is_faster(factor: float, chosen: str) -> None:
    machine = Bfloat16Machine(factor)
    facts = replace(FACTS, may_choose_bfloat16=True, may_choose_threads=True)
    plan = make_plan(facts, Budget(minutes=3), {}, machine)
    assert plan.train.precision == chosen
    batching = recipe.BFLOAT16_BATCHING if chosen == "bf16" else recipe.DEFAULT_BATCHING
    assert (plan.train.batch_size, plan.train.learning_rate) == (
        batching.lanes, batching.learning_rate
    )  # fmt: skip
    assert machine.measured[:4] == [("fp32", 0), ("fp32", 1), ("bf16", 0), ("bf16", 1)]
    assert set(machine.measured[4:]) == {(chosen, plan.threads)}


@pytest.mark.parametrize("given", [{"precision": "fp32"}, {"precision": "bf16"}, {"cell": "gru"}])
def test_a_given_precision_is_kept(given: dict[str, str]) -> None:
    plan = make_plan(FACTS, Budget(minutes=3), given, Bfloat16Machine(9.0))
    assert plan.train.precision == given.get("precision", "fp32")


def test_a_budget_in_steps_never_depends_on_the_speed_of_bfloat16() -> None:
    facts = replace(FACTS, may_choose_bfloat16=True)
    assert make_plan(facts, Budget(steps=9), {}, NoMachine()).train.precision == "fp32"


def test_a_given_number_of_threads_is_kept() -> None:
    machine = CrowdedMachine(0.1)
    assert make_plan(replace(FACTS, threads=2), Budget(minutes=3), {}, machine).threads == 2
    assert set(machine.threads) == {2}
